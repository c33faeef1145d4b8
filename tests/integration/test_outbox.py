"""A store that is away, by a real daemon and real workers: every backup is kept, and all arrive once it is back."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import outbox as outbox_folder
from tests.integration.daemon_node import DaemonNode, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
SHIPPED = "nothing is shipped"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    """A node whose store is a file where its folder should be."""
    with node_in(tmp_path) as made:
        made.set_config(
            f'[store]\npath = "{made.root / "store"}"\n[outbox]\nretry_interval_s = 1\n'
            "[daemon]\nscan_interval_s = 1\nstop_timeout_s = 1\n"
        )
        (made.root / "store").write_bytes(b"")
        yield made


def kept(node: DaemonNode) -> int:
    return outbox_folder.count(node.root / "var/lib/etcd-agent/outbox")


def manifests(node: DaemonNode) -> list[Path]:
    return sorted(node.root.glob("store/*/manifest/prod/*.json"))


def bring_back(node: DaemonNode) -> None:
    (node.root / "store").unlink()


def test_a_day_without_a_store_costs_no_backup(node: DaemonNode) -> None:
    node.start()
    answers = [node.command("snapshot", "create", "--json") for _ in range(3)]
    results = [json.loads(answer.stdout)["result"] for answer in answers]
    assert [answer.returncode for answer in answers] == [0, 0, 0]
    assert [(result["status"], result["output"]["stored"]) for result in results] == [("succeeded", False)] * 3
    assert kept(node) == 3
    wait_until(lambda: node.count("outbox.offered") > 0, "it is never offered")
    bring_back(node)
    wait_until(lambda: kept(node) == 0, SHIPPED)
    found = [json.loads(path.read_text()) for path in manifests(node)]
    assert sorted(one["snapshot_id"] for one in found) == sorted(result["output"]["snapshot_id"] for result in results)
    assert sorted(one["trace_id"] for one in found) == sorted(result["trace_id"] for result in results)
    assert {check["outcome"] for one in found for check in one["checks"]} == {"passed"}
    listed = json.loads(node.command("snapshot", "list", "--json").stdout)
    assert [one["good"] for one in listed["snapshots"]] == [True] * 3
    lines = [line for line in node.lines() if line["event"] == "outbox.shipped"]
    assert sorted(line["trace_id"] for line in lines) == sorted(result["trace_id"] for result in results)


def test_people_are_told_that_it_waits_on_this_node(node: DaemonNode) -> None:
    node.start()
    shown = node.command("snapshot", "create").stdout
    assert "NOT STORED" in shown
    assert str(node.root / "var/lib/etcd-agent/outbox") in shown


def test_killed_anywhere_while_it_ships_nothing_is_lost_or_doubled(node: DaemonNode) -> None:
    daemon = node.start()
    for _ in range(2):
        assert node.command("snapshot", "create").returncode == 0
    bring_back(node)
    for event in ("operation.started", "outbox.shipped"):
        before = node.count(event)
        wait_until(lambda event=event, before=before: node.count(event) > before or kept(node) == 0, SHIPPED)  # type: ignore[misc]
        for running in node.root.glob("var/lib/etcd-agent/locks/outbox-*"):
            group = running.read_text().partition(" ")[0]
            if group.isdigit() and Path("/proc", group, "environ").exists():
                os.kill(int(group), signal.SIGKILL)
        daemon.kill()
        daemon = node.start()
    wait_until(lambda: kept(node) == 0, SHIPPED)
    wait_until(node.nothing_half_is_left, "something is left")
    assert len(manifests(node)) == 2
    found = {path.relative_to(node.root / "store").as_posix() for path in node.root.glob("store/*/data/prod/*")}
    assert {json.loads(path.read_text())["data"]["key"] for path in manifests(node)} <= found
    assert len(found) <= 2 + 2  # a kill between data and manifest leaves data that nothing lists, one each
