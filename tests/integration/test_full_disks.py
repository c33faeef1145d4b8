"""Each folder of a node full in turn, on a small file system of its own: told as that, nothing half, and it goes on."""

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_node import DaemonNode, node_in
from tests.sandbox.processes import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts small file systems"),
]
SIZE_KB = 256
FIRST, SECOND = "snapshot-1111", "snapshot-2222"


@dataclass
class Disk:
    """A small file system at a folder of the node."""

    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self, free_bytes: int = 0) -> None:
        """Leaves so many bytes free."""
        with contextlib.suppress(OSError), self.filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 4096)
        if free_bytes:
            os.truncate(self.filler, max(0, self.filler.stat().st_size - free_bytes))

    def make_room(self) -> None:
        self.filler.unlink()


@contextlib.contextmanager
def disk_at(folder: Path, size_kb: int = SIZE_KB) -> Iterator[Disk]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k,mode=0750", "none", str(folder)], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        # What no compression makes small, about 64 KiB of it.
        body = os.urandom(65536)
        (made.etcd / "snapshot.db").write_bytes(body + hashlib.sha256(body).digest())
        made.set_status(dbSize=65536)
        yield made


def state_of(node: DaemonNode) -> Path:
    return node.root / "var/lib/etcd-agent"


def snapshot(node: DaemonNode, op_id: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the result."""
    ended = node.command("submit", "snapshot", "--op-id", op_id, "--json")
    assert "Traceback" not in ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, found.get("result") or found


def test_a_work_folder_without_room_is_found_before_anything_is_written(node: DaemonNode) -> None:
    with disk_at(state_of(node) / "work") as disk:
        node.start()
        disk.fill(65536)
        exit_code, result = snapshot(node, FIRST)
        assert (exit_code, result["error"]["code"]) == (1, "no_space"), result
        assert "bytes free" in result["error"]["message"]
        assert result["error"]["hint"]
        assert not (node.etcd / "saving").exists()
        disk.make_room()
        assert snapshot(node, FIRST)[0] == 0
        node.go_on()
        assert len(node.stored("manifest")) == 1
        assert node.nothing_half_is_left()


def test_a_work_folder_that_fills_while_the_snapshot_is_written_leaves_nothing(node: DaemonNode) -> None:
    with disk_at(state_of(node) / "work") as disk:
        node.set_status(dbSize=1024)  # as it was a moment ago
        node.start()
        disk.fill(16384)
        exit_code, result = snapshot(node, FIRST)
        assert (exit_code, result["error"]["code"]) == (1, "no_space"), result
        assert "room" in result["error"]["hint"]
        assert list(disk.folder.glob("*/*")) == []
        assert node.stored("manifest") == []
        disk.make_room()
        assert snapshot(node, FIRST)[0] == 0


@pytest.mark.parametrize("free_bytes", [0, 16384])
def test_a_store_that_is_full_is_told_and_keeps_nothing_half(node: DaemonNode, free_bytes: int) -> None:
    with disk_at(state_of(node) / "snapshots") as disk:
        node.start()
        disk.fill(free_bytes)
        exit_code, result = snapshot(node, FIRST)
        assert (exit_code, result["output"]["stored"]) == (0, False), result
        trouble = result["output"]["why_not_stored"]
        assert (trouble["code"], str(disk.folder) in trouble["message"]) == ("no_space", True), trouble
        assert "prune" in trouble["hint"]
        assert (node.stored("data"), node.stored("manifest")) == ([], [])
        disk.make_room()
        assert node.command("submit", "outbox").returncode == 0
        assert (len(node.stored("data")), len(node.stored("manifest"))) == (1, 1)
        assert node.nothing_half_is_left()


def test_a_store_with_no_room_for_the_manifest_gives_the_data_back(node: DaemonNode) -> None:
    with disk_at(state_of(node) / "snapshots") as disk:
        node.start()
        assert snapshot(node, FIRST)[0] == 0
        disk.fill(2 * 4096 + 65536)
        room = 0
        assert snapshot(node, SECOND)[1]["output"]["stored"] is False
        for _ in range(12):  # page by page, until the data fits and its manifest does not
            exit_code = node.command("submit", "outbox").returncode
            assert len(node.stored("data")) == len(node.stored("manifest"))
            if exit_code == 0:
                break
            room += 4096
            os.truncate(disk.filler, disk.filler.stat().st_size - 4096)
        assert exit_code == 0, "there was never room enough"
        assert room > 0
        assert node.nothing_half_is_left()


def test_a_spool_that_is_full_takes_no_request_and_says_so(node: DaemonNode) -> None:
    with disk_at(state_of(node) / "spool") as disk:
        node.start()
        disk.fill()
        ended = node.command("submit", "snapshot", "--op-id", FIRST, "--json")
        told = json.loads(ended.stdout)["error"]
        assert (ended.returncode, told["code"]) == (1, "no_space"), told
        assert told["hint"]
        assert "Traceback" not in ended.stderr
        assert [name for name in node.spool.names("incoming") if not name.startswith(".")] == []
        disk.make_room()
        assert snapshot(node, FIRST)[0] == 0
        assert len(node.stored("manifest")) == 1


def test_a_result_that_has_no_room_is_written_once_there_is_some(node: DaemonNode) -> None:
    node.set_config("[daemon]\nstop_timeout_s = 1\nscan_interval_s = 1\n")
    with disk_at(state_of(node) / "spool") as disk:
        node.start()
        node.hold()
        node.submit(FIRST)
        node.until_saving()
        disk.fill()
        node.go_on()
        wait_until(lambda: node.count("worker.crashed") > 0, "the worker does not meet the full disk")
        disk.make_room()
        result = node.until_ended(FIRST)
        assert (result.status, len(node.stored("manifest"))) == ("succeeded", 1), result
        assert snapshot(node, SECOND)[0] == 0


def test_a_log_that_is_full_stops_no_snapshot(node: DaemonNode) -> None:
    with disk_at(node.root / "var/log/etcd-agent") as disk:
        node.start()
        disk.fill()
        assert snapshot(node, FIRST)[0] == 0
        assert len(node.stored("manifest")) == 1
        lines = node.log_file.read_bytes().count(b"\n")
        disk.make_room()
        assert snapshot(node, SECOND)[0] == 0
        assert node.log_file.read_bytes().count(b"\n") > lines
