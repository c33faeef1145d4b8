"""Tools a version newer or older than the server: right answers or a declared error, never a wrong answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.domain.cluster import AlarmKind
from agent.operations import inspection
from tests.etcd_versions import servers
from tests.etcd_versions.servers import Servers
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]


@pytest.fixture(scope="module")
def crossed(pair: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Servers, Etcdctl]]:
    """A server of the one version, and the adapter with the tools of the other."""
    of_server, of_tools = pair
    tools = servers.tools_or_skip(of_server)
    other = servers.tools_or_skip(of_tools)
    with servers.running(of_server, tools, tmp_path_factory.mktemp("crossed"), size=1) as server:
        yield server, Etcdctl(msgspec.structs.replace(server.config, tools_dir=str(other)))


def test_reads_are_the_same_by_tools_of_the_next_version(crossed: tuple[Servers, Etcdctl]) -> None:
    server, client = crossed
    own = server.client
    revision = server.put("/registry/a", "1")
    assert client.linearizable_revision() == own.linearizable_revision() == revision
    # The file's size is etcd's own matter: it grows a little after the put.
    assert replace(client.status(), db_size_bytes=0) == replace(own.status(), db_size_bytes=0)
    assert client.members() == own.members()
    assert client.count_keys(revision) == own.count_keys(revision) == 1
    later = server.put("/registry/a", "2")
    server.gateway("/v3/kv/compaction", {"revision": later})
    assert client.count_keys(revision) is None


def test_alarms_are_told_by_tools_of_the_next_version(crossed: tuple[Servers, Etcdctl]) -> None:
    server, client = crossed
    member_id = client.status().member_id
    server.alarm("ACTIVATE", member_id, "NOSPACE")
    try:
        (alarm,) = client.alarms()
        assert (alarm.member_id, alarm.kind) == (member_id, AlarmKind.NOSPACE)
    finally:
        server.alarm("DEACTIVATE", member_id, "NOSPACE")
    assert list(client.alarms()) == []


def test_a_snapshot_is_saved_and_read_by_tools_of_the_next_version(
    crossed: tuple[Servers, Etcdctl], pair: tuple[str, str], tmp_path: Path
) -> None:
    server, client = crossed
    revision, path = server.put("/registry/snapshot", "1"), tmp_path / "snapshot.db"
    client.save_snapshot(path, timeout_s=30, on_bytes=lambda done: None)
    raw = inspection.check_trailer(path)
    found = SnapshotStatus(str(etcd.tools_folder(pair[1]))).status(path)
    assert found.revision == revision
    assert found.total_size_bytes == raw.size_bytes - inspection.TRAILER_BYTES
