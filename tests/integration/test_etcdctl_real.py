"""The etcd adapter against real servers of each version: the same answers, and errors of the declared kinds alone."""

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.config import EtcdConfig
from agent.domain.cluster import AlarmKind
from agent.errors import (
    BadInput,
    CommandMissing,
    EtcdAnswerInvalid,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    SnapshotInvalid,
)
from agent.operations import inspection
from tests.sandbox.certificates import Authority
from tests.sandbox.etcd_cluster import EtcdCluster, EtcdMember, call
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Processes
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]


@dataclass(frozen=True)
class Server:
    """A running etcd of one member, and the adapter's configuration for it."""

    version: str
    member: EtcdMember
    config: EtcdConfig
    pki: Authority

    @property
    def client(self) -> Etcdctl:
        return Etcdctl(self.config)

    def with_config(self, **changes: Any) -> Etcdctl:
        return Etcdctl(msgspec.structs.replace(self.config, **changes))

    def gateway(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.member.connection() as connection:
            return call(connection, path, body)

    def put(self, key: str, value: str) -> int:
        """The revision of that write."""
        encoded = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
        return int(self.gateway("/v3/kv/put", encoded)["header"]["revision"])


@pytest.fixture(scope="module", params=["3.4", "3.5"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    version: str = request.param
    if version not in etcd.present():
        pytest.skip(f"etcd {version} is not in the cache; `make etcd` fetches it")
    folder, tools = tmp_path_factory.mktemp("etcd"), etcd.tools_folder(version)
    with Processes(folder / "logs") as processes:
        cluster = EtcdCluster(processes, folder, tools, size=1)
        cluster.start()
        (member,) = cluster.members
        tls = member.certificate
        config = EtcdConfig(
            endpoints=(member.client_url,), ca_cert=str(tls.ca_cert), cert=str(tls.cert), key=str(tls.key),
            tools_dir=str(tools), call_timeout_s=2,
        )  # fmt: skip
        yield Server(version, member, config, Authority(folder / "other-pki", "another organization"))


def test_a_member_tells_its_status(server: Server) -> None:
    status = server.client.status()
    assert status.endpoint == server.member.client_url
    assert status.version.startswith(f"{server.version}.")
    assert status.member_id > 0
    assert status.cluster_id > 0
    assert status.is_leader
    assert not status.is_learner
    assert status.db_size_bytes > 0
    assert status.errors == ()


def test_the_only_member_is_a_started_voter(server: Server) -> None:
    (member,) = server.client.members()
    assert member.member_id == server.client.status().member_id
    assert (member.name, member.client_urls) == (server.member.name, (server.member.client_url,))
    assert member.is_started
    assert not member.is_learner


def test_a_linearizable_read_sees_the_last_write(server: Server) -> None:
    revision = server.put("/registry/a", "1")
    assert server.client.linearizable_revision() == revision
    own = server.client.status().member_id
    assert server.client.linearizable_revision(server.member.client_url, member_id=own) == revision
    with pytest.raises(EtcdAnswerInvalid, match="answers as member"):
        server.client.linearizable_revision(server.member.client_url, member_id=own + 1)


def test_keys_are_counted_at_a_revision_until_it_is_compacted(server: Server) -> None:
    first = server.put("/registry/counted/1", "1")
    before = server.client.count_keys(first)
    assert before is not None
    second = server.put("/registry/counted/2", "2")
    assert server.client.count_keys(second) == before + 1
    assert server.client.count_keys(first) == before
    server.gateway("/v3/kv/compaction", {"revision": second})
    assert server.client.count_keys(first) is None
    assert server.client.count_keys(second) == before + 1


@pytest.mark.parametrize("kind", [AlarmKind.NOSPACE, AlarmKind.CORRUPT])
def test_alarms_are_told_by_member_and_kind(server: Server, kind: AlarmKind) -> None:
    assert list(server.client.alarms()) == []
    member_id = server.client.status().member_id
    alarm = {"memberID": str(member_id), "alarm": kind.name}
    server.gateway("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
    try:
        (told,) = server.client.alarms()
        assert (told.member_id, told.kind) == (member_id, kind)
    finally:
        server.gateway("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})


def test_a_snapshot_is_whole_and_read_by_the_tool(server: Server, tmp_path: Path) -> None:
    for number in range(20):
        server.put(f"/registry/many/{number}", "x" * 1000)
    revision = server.client.linearizable_revision()
    path = tmp_path / "snapshot.db"
    server.client.save_snapshot(path, timeout_s=30, on_bytes=lambda done: None)
    raw = inspection.check_trailer(path)
    tool = SnapshotStatus(server.config.tools_dir)
    found = tool.status(path)
    assert found.revision == revision
    assert found.total_size_bytes == raw.size_bytes - inspection.TRAILER_BYTES
    assert found.total_key >= 20
    assert tool.describe().startswith("etcdutl 3.5." if server.version == "3.5" else "etcdctl 3.4.")
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.db"]


def test_damage_is_found_by_the_trailer_or_by_the_tool(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.db"
    server.client.save_snapshot(path, timeout_s=30, on_bytes=lambda done: None)
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    for content in (bytes(altered), whole[:-1], whole[:-32], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(SnapshotInvalid):
            inspection.check_trailer(path)
    path.write_bytes(whole[:4096])
    with pytest.raises(SnapshotInvalid, match="says that the snapshot is damaged"):
        SnapshotStatus(server.config.tools_dir).status(path)


def test_a_snapshot_that_can_not_be_written_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EtcdError, match="no such file or directory"):
        server.client.save_snapshot(tmp_path / "none/snapshot.db", timeout_s=10, on_bytes=lambda done: None)
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_of_a_dead_endpoint_ends_in_its_time_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    """Without an explicit time etcdctl waits for ever."""
    dead = server.with_config(endpoints=(f"https://127.0.0.1:{free_port()}",))
    began = time.monotonic()
    with pytest.raises((EtcdUnavailable, EtcdOutcomeUnknown)):
        dead.save_snapshot(tmp_path / "snapshot.db", timeout_s=1, on_bytes=lambda done: None)
    assert time.monotonic() - began < 8
    assert list(tmp_path.iterdir()) == []


def test_a_dead_endpoint_is_unavailable_and_a_later_try_may_work(server: Server) -> None:
    dead = server.with_config(endpoints=(f"https://127.0.0.1:{free_port()}",), call_timeout_s=1)
    with pytest.raises(EtcdUnavailable, match=r"connection refused|endpoint status") as caught:
        dead.status()
    assert caught.value.retryable
    with pytest.raises((EtcdUnavailable, EtcdOutcomeUnknown)):
        dead.linearizable_revision()


def test_a_server_of_another_authority_is_no_matter_of_trying_again(server: Server) -> None:
    other = server.pki.issue("client", "127.0.0.1")
    with pytest.raises(EtcdError, match="certificate") as caught:
        server.with_config(ca_cert=str(other.ca_cert), call_timeout_s=1).status()
    assert not caught.value.retryable
    assert "etcd.ca_cert" in caught.value.hint


def test_a_client_of_another_authority_gets_no_answer(server: Server, tmp_path: Path) -> None:
    other = server.pki.issue("client", "127.0.0.1")
    stranger = server.with_config(cert=str(other.cert), key=str(other.key), call_timeout_s=1)
    with pytest.raises(EtcdError, match="endpoint status"):
        stranger.status()
    with pytest.raises(EtcdError):
        stranger.save_snapshot(tmp_path / "snapshot.db", timeout_s=1, on_bytes=lambda done: None)
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_is_not_there_is_bad_input_at_once(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match="no such file") as caught:
        server.with_config(cert=str(tmp_path / "none.crt")).status()
    assert time.monotonic() - began < 2
    assert "etcd.cert" in caught.value.hint


def test_several_endpoints_are_none(server: Server) -> None:
    client = server.with_config(endpoints=(server.member.client_url,) * 2)
    with pytest.raises(BadInput, match="names 2 endpoints"):
        client.status()


def test_variables_of_etcdctl_in_our_environment_change_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ENDPOINTS", "http://127.0.0.1:1"), ("WRITE_OUT", "table"), ("API", "2"), ("USER", "x:y")):
        monkeypatch.setenv(f"ETCDCTL_{name}", value)
    assert server.client.status().is_leader


def test_the_version_of_the_program_is_told(server: Server) -> None:
    assert server.client.version().startswith(f"{server.version}.")


def test_a_folder_without_the_tools_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandMissing, match=f"etcdctl is not in {tmp_path}"):
        server.with_config(tools_dir=str(tmp_path)).status()
    with pytest.raises(CommandMissing):
        SnapshotStatus(str(tmp_path)).describe()
