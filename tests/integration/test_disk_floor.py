"""A small disk that etcd's data and the agent share: snapshots stop at its floor, after kept copies gave way."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon_node import DaemonNode, node_in
from tests.integration.test_full_disks import FIRST, SECOND, Disk, disk_at, snapshot, state_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts small file systems"),
]
DB_BYTES = 262144
FLOOR_BYTES = 1024 * 1024
NEEDED_BYTES = DB_BYTES * 12 // 10 + DB_BYTES  # the file, and its copy in the store
DISK_KB = 4096
SLACK_BYTES = 256 * 1024  # of the spool, the journal and the folders
AWAY = '[store]\nkind = "s3"\nbucket = "away"\nendpoint_url = "http://127.0.0.1:9"\nregion = "eu-central-1"\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        body = os.urandom(DB_BYTES)  # what no compression makes small
        (made.etcd / "snapshot.db").write_bytes(body + hashlib.sha256(body).digest())
        made.set_status(dbSize=DB_BYTES)
        yield made


@pytest.fixture
def disk(node: DaemonNode) -> Iterator[Disk]:
    """At `/var/lib` of the node, with etcd's data folder on it."""
    with disk_at(node.root / "var/lib", size_kb=DISK_KB) as made:
        (made.folder / "etcd").mkdir()
        yield made


def configure(node: DaemonNode, more: str = "", floor_bytes: int = FLOOR_BYTES) -> None:
    data_dir = node.root / "var/lib/etcd"
    node.set_config(
        f'data_dir = "{data_dir}"\n[snapshot]\netcd_disk_floor_bytes = {floor_bytes}\n{more}'
        "[daemon]\nstop_timeout_s = 1\n"
    )


def free_bytes(disk: Disk) -> int:
    values = os.statvfs(disk.folder)
    return values.f_bavail * values.f_frsize


def kept(node: DaemonNode) -> list[str]:
    return sorted(path.name.removesuffix(".json") for path in (state_of(node) / "outbox").glob("*.json"))


def test_below_the_floor_nothing_is_written_and_with_room_it_goes_on(node: DaemonNode, disk: Disk) -> None:
    configure(node)
    node.start()
    disk.fill(FLOOR_BYTES + NEEDED_BYTES - 65536)
    exit_code, result = snapshot(node, FIRST)
    assert (exit_code, result["error"]["code"]) == (1, "no_space"), result
    message = result["error"]["message"]
    assert str(disk.folder / "etcd") in message
    assert f"{FLOOR_BYTES:,} must stay free" in message
    assert "snapshot.etcd_disk_floor_bytes" in result["error"]["hint"]
    assert not (node.etcd / "saving").exists()
    disk.make_room()
    disk.fill(FLOOR_BYTES + NEEDED_BYTES + SLACK_BYTES)
    assert snapshot(node, FIRST)[0] == 0
    assert free_bytes(disk) >= FLOOR_BYTES
    assert len(node.stored("manifest")) == 1


def test_a_dry_run_says_the_same_before(node: DaemonNode, disk: Disk) -> None:
    configure(node)
    node.start()
    disk.fill(FLOOR_BYTES)
    ended = node.command("snapshot", "create", "--dry-run", "--json")
    assert ended.returncode == 1
    assert "must stay free" in ended.stdout


def test_without_a_floor_the_disk_is_used_as_before(node: DaemonNode, disk: Disk) -> None:
    configure(node, floor_bytes=0)
    node.start()
    disk.fill(NEEDED_BYTES + SLACK_BYTES)
    assert snapshot(node, FIRST)[0] == 0
    assert free_bytes(disk) < FLOOR_BYTES


def test_kept_copies_give_way_the_oldest_first_and_the_newest_verified_stays(node: DaemonNode, disk: Disk) -> None:
    configure(node, AWAY)
    node.start(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    for number, op_id in enumerate((FIRST, SECOND), 1):
        node.submit(op_id, requested_at=f"2026-01-31T12:0{number}:00Z")
        assert node.until_ended(op_id).output["stored"] is False
    first, second = kept(node)
    disk.fill(FLOOR_BYTES + DB_BYTES * 12 // 10 - DB_BYTES // 2)
    node.submit("snapshot-3333", requested_at="2026-01-31T12:03:00Z")
    result = node.until_ended("snapshot-3333")
    dropped = [line["snapshot_id"] for line in node.lines() if line["event"] == "outbox.dropped"]
    assert dropped[0] == first
    assert second in kept(node)
    # The file itself fits then; a third copy beside it does not, and the floor stays.
    assert result.error is not None
    assert result.error.code == "no_space"
    assert kept(node) == [second]
    assert free_bytes(disk) >= FLOOR_BYTES


def test_a_data_folder_that_is_not_there_is_told_and_costs_no_snapshot(node: DaemonNode, disk: Disk) -> None:
    configure(node)
    (disk.folder / "etcd").rmdir()
    node.start()
    disk.fill(NEEDED_BYTES + SLACK_BYTES)
    assert snapshot(node, FIRST)[0] == 0
    assert node.count("disk.not_seen") == 1
