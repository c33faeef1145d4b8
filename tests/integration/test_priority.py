"""A backup goes behind etcd, as its worker, all threads and its etcdctl show; what the cluster waits for does not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import scripted_node
from tests.integration.daemon_node import DaemonNode, node_in

pytestmark = pytest.mark.integration
OP_ID = "snapshot-0123456789abcdef"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        made.hold()
        yield made


def nice_values(pid: int) -> set[int]:
    """Those of all threads of a process."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats}


def io_classes(pid: int) -> set[str]:
    threads = [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
    asked = [["ionice", "-p", thread] for thread in threads]
    return {subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() for argv in asked}


def saving(node: DaemonNode) -> tuple[int, int]:
    """The worker and the etcdctl it started, in the middle of a snapshot."""
    node.submit(OP_ID)
    etcdctl = node.until_saving()
    return node.worker_of(etcdctl), etcdctl


def test_worker_and_etcdctl_run_behind_everybody_else_and_the_daemon_does_not(node: DaemonNode) -> None:
    daemon = node.start()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for pid in saving(node):
        assert nice_values(pid) == {max(10, own)}
        assert io_classes(pid) == {"idle"}
        autogroup = Path(f"/proc/{pid}/autogroup")
        assert not autogroup.exists() or autogroup.read_text().split()[-1] == "10"
    assert nice_values(daemon.pid) == {own}
    assert "idle" not in io_classes(daemon.pid)
    node.go_on()
    assert node.until_ended(OP_ID).status == "succeeded"
    assert node.count("priority.not_lowered") == 0


def test_both_can_be_configured(node: DaemonNode) -> None:
    node.set_config('[snapshot]\nnice = 3\nio_class = "best-effort"\n')
    node.start()
    for pid in saving(node):
        assert nice_values(pid) == {max(3, os.getpriority(os.PRIO_PROCESS, 0))}
        assert io_classes(pid) == {"best-effort: prio 7"}


def test_both_can_be_left_as_they_are(node: DaemonNode) -> None:
    node.set_config('[snapshot]\nnice = 0\nio_class = "none"\n')
    daemon = node.start()
    for pid in saving(node):
        assert nice_values(pid) == {os.getpriority(os.PRIO_PROCESS, 0)}
        assert io_classes(pid) == io_classes(daemon.pid)


def path_without(folder: Path, missing: str) -> str:
    """A folder of links to all programs but that one."""
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if program.name != missing and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    assert shutil.which(missing, path=str(folder)) is None
    return str(folder)


def test_without_ionice_it_is_told_and_the_backup_is_made(node: DaemonNode, tmp_path: Path) -> None:
    node.start(PATH=path_without(tmp_path / "bin", "ionice"))
    worker, _ = saving(node)
    assert nice_values(worker) == {max(10, os.getpriority(os.PRIO_PROCESS, 0))}
    node.go_on()
    assert node.until_ended(OP_ID).status == "succeeded"
    (line,) = [line for line in node.lines() if line["event"] == "priority.not_lowered"]
    assert "ionice" in line["message"]
    assert line["op_id"] == OP_ID


def test_an_ionice_that_may_not_is_told_and_the_backup_is_made(node: DaemonNode, tmp_path: Path) -> None:
    """As where a filter of system calls refuses it."""
    folder = Path(path_without(tmp_path / "bin", "ionice"))
    (folder / "ionice").write_text("#!/bin/sh\necho 'ionice: ioprio_set failed: Operation not permitted' >&2\nexit 1\n")
    (folder / "ionice").chmod(0o755)
    node.start(PATH=str(folder))
    node.go_on()
    node.submit(OP_ID)
    assert node.until_ended(OP_ID).status == "succeeded"
    (line,) = [line for line in node.lines() if line["event"] == "priority.not_lowered"]
    assert "Operation not permitted" in line["message"]


def test_only_backups_step_back(tmp_path: Path) -> None:
    with scripted_node.node_in(tmp_path) as node:
        node.start()
        for operation in ("retire", "snapshot", "restore"):
            node.submit(f"{operation}-0001", "succeed", operation=operation)
            node.until_ended(f"{operation}-0001")
        assert (node.state / "stepped-back").read_text().split() == ["snapshot-0001"]
