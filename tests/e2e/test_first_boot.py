"""The service in a real systemd, installed by the guide's commands: one node that boots, for all of these tests."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandbox import booted_node
from tests.sandbox.booted_node import BootedNode, CanNotBoot

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
CAP_DAC_READ_SEARCH = 1 << 2


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedNode]:
    try:
        with booted_node.running(tmp_path_factory.mktemp("boot")) as booted:
            yield booted
    except CanNotBoot as reason:
        pytest.skip(str(reason))


def process_status(node: BootedNode) -> dict[str, str]:
    """`/proc/PID/status` of the daemon."""
    text = node.run("cat", f"/proc/{node.show('MainPID')}/status").stdout
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_systemd_hears_that_the_daemon_is_ready_and_what_it_does(node: BootedNode) -> None:
    assert node.show("ActiveState") == "active"
    assert node.show("StatusText") == "idle; 0 queued; 0 ended since start"
    assert node.show("NRestarts") == "0"


def test_the_daemon_is_its_user_with_one_capability_and_can_not_gain_another(node: BootedNode) -> None:
    status = process_status(node)
    uid = node.run("id", "-u", "etcd-agent").stdout.strip()
    assert status["Uid"].split() == [uid] * 4
    masks = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")}
    assert masks == dict.fromkeys(masks, CAP_DAC_READ_SEARCH)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_a_snapshot_is_taken_with_a_key_that_only_root_may_read(node: BootedNode) -> None:
    key = booted_node.PKI / "node-1.key"
    assert node.run("stat", "--format=%a %U", str(key)).stdout == "600 root\n"
    answer = snapshot(node, "snapshot-with-roots-key")
    assert answer["state"] == "done"


def snapshot(node: BootedNode, op_id: str) -> dict[str, Any]:
    printed = node.run("etcd-agent", "submit", "snapshot", "--op-id", op_id, "--json").stdout
    answer: dict[str, Any] = json.loads(printed)
    return answer
