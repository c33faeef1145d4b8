"""Whatever ends the tests, nothing of a node that boots is left: no process, no mount, no cgroup, no folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.nspawn_node import PROJECT, CanNotBoot, tree
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
# Boots a node without anything of ours, says which folder is its own, and waits.
TESTS = """
import signal, sys, time
from pathlib import Path
from tests.sandbox.nspawn_node import tree
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background with it ignored
with tree(Path(sys.argv[1])) as node:
    node.boot()
    print(node.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def _can_boot(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        with tree(tmp_path_factory.mktemp("tree")):
            pass
    except CanNotBoot as reason:
        pytest.skip(str(reason))


def left_of(folder: Path) -> list[str]:
    """What there still is of a node, by the name of its folder."""
    groups = (path for path, _, _ in os.walk("/sys/fs/cgroup"))  # which goes on where one vanishes meanwhile
    left = [path for path in (str(folder), *groups) if Path(path).name == folder.name and Path(path).exists()]
    if folder.name in Path("/proc/self/mountinfo").read_text():
        left.append("a mount")
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and folder.name in (process / "mountinfo").read_text():
                left.append((process / "cmdline").read_text())
        except OSError:
            continue
    return left


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_the_tests_are_ended(tmp_path: Path, name: str) -> None:
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS, tmp_path], cwd=PROJECT, stdout=subprocess.PIPE, text=True, process_group=0
    )
    with tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        assert folder.name
        assert left_of(folder) != []
        os.killpg(tests.pid, signal.Signals[name])
    wait_until(lambda: left_of(folder) == [], f"after {name}: {left_of(folder)}", timeout_s=30)
