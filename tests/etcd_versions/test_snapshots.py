"""Snapshots of each version: saved whole or not at all, read by the tool that this version has for it."""

from pathlib import Path

import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.errors import CommandMissing, EtcdError, EtcdOutcomeUnknown, EtcdUnavailable, SnapshotInvalid
from agent.operations import inspection
from tests.etcd_versions.servers import Servers
from tests.sandbox.free_ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
HAS_ETCDUTL_SINCE = (3, 5)
ETCDCTL_READS_NONE_SINCE = (3, 6)


def number_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def save(client: Etcdctl, path: Path, timeout_s: float = 30) -> None:
    client.save_snapshot(path, timeout_s=timeout_s, on_bytes=lambda done: None)


def test_a_snapshot_is_whole_and_read_by_the_tool(server: Servers, tmp_path: Path) -> None:
    for number in range(20):
        server.put(f"/registry/many/{number}", "x" * 1000)
    revision = server.client.linearizable_revision()
    path = tmp_path / "snapshot.db"
    save(server.client, path)
    raw = inspection.check_trailer(path)
    tool = SnapshotStatus(server.config.tools_dir)
    found = tool.status(path)
    assert found.revision == revision
    assert found.total_size_bytes == raw.size_bytes - inspection.TRAILER_BYTES
    assert found.total_key >= 20
    program = "etcdutl" if number_of(server.version) >= HAS_ETCDUTL_SINCE else "etcdctl"
    assert tool.describe().startswith(f"{program} {server.version}.")
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.db"]


def test_a_snapshot_under_an_alarm_is_as_good(server: Servers, tmp_path: Path) -> None:
    member_id = server.client.status().member_id
    server.alarm("ACTIVATE", member_id, "NOSPACE")
    try:
        revision = server.client.linearizable_revision()
        save(server.client, tmp_path / "snapshot.db")
        inspection.check_trailer(tmp_path / "snapshot.db")
        assert SnapshotStatus(server.config.tools_dir).status(tmp_path / "snapshot.db").revision == revision
    finally:
        server.alarm("DEACTIVATE", member_id, "NOSPACE")


def test_without_etcdutl_etcdctl_reads_snapshots_where_it_still_can(server: Servers, tmp_path: Path) -> None:
    path, only = tmp_path / "snapshot.db", tmp_path / "only-etcdctl"
    save(server.client, path)
    only.mkdir()
    (only / "etcdctl").symlink_to(server.tools / "etcdctl")
    tool = SnapshotStatus(str(only))
    if number_of(server.version) < ETCDCTL_READS_NONE_SINCE:
        assert tool.describe().startswith(f"etcdctl {server.version}.")
        assert tool.status(path).revision == server.client.linearizable_revision()
        return
    with pytest.raises(CommandMissing, match="etcdutl") as caught:
        tool.status(path)
    assert "etcdutl" in caught.value.hint


def test_damage_is_found_by_the_trailer_or_by_the_tool(server: Servers, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.db"
    save(server.client, path)
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    for content in (bytes(altered), whole[:-1], whole[:-32], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(SnapshotInvalid):
            inspection.check_trailer(path)
    for content in (whole[:4096], b"", b"no database at all\n" * 500):
        path.write_bytes(content)
        with pytest.raises(SnapshotInvalid, match="says that the snapshot is damaged"):
            SnapshotStatus(server.config.tools_dir).status(path)


def test_a_file_that_is_not_there_is_no_snapshot(server: Servers, tmp_path: Path) -> None:
    with pytest.raises(SnapshotInvalid):
        SnapshotStatus(server.config.tools_dir).status(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_that_can_not_be_written_leaves_nothing(server: Servers, tmp_path: Path) -> None:
    with pytest.raises(EtcdError, match="no such file or directory"):
        save(server.client, tmp_path / "none/snapshot.db", timeout_s=10)
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_of_a_dead_endpoint_ends_in_its_time_and_leaves_nothing(server: Servers, tmp_path: Path) -> None:
    """Without an explicit time etcdctl waits for ever."""
    dead = server.with_config(endpoints=(f"https://127.0.0.1:{free_port()}",))
    with pytest.raises((EtcdUnavailable, EtcdOutcomeUnknown)) as caught:
        save(dead, tmp_path / "snapshot.db", timeout_s=1)
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []
