"""Slots: two side by side, a restore alone and in its turn, reads at any time."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.scripted_node import ScriptedNode, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScriptedNode]:
    with node_in(tmp_path) as made:
        yield made


def submit(node: ScriptedNode, op_id: str, words: str = "hang") -> None:
    node.submit(op_id, words, operation=op_id.partition("-")[0])


def go_on(node: ScriptedNode, *op_ids: str) -> None:
    for op_id in op_ids:
        (node.state / f"go-on.{op_id}").touch()


def queued(node: ScriptedNode) -> list[str]:
    return [name.removesuffix(".json") for name in node.spool.names("incoming")]


def test_backup_and_membership_run_side_by_side_and_one_of_each(node: ScriptedNode) -> None:
    node.start()
    for op_id in ("snapshot-01", "retire-001", "snapshot-02", "retire-002"):
        submit(node, op_id)
    node.until_started("snapshot-01")
    node.until_started("retire-001")
    assert sorted(queued(node)) == ["retire-002", "snapshot-02"]
    go_on(node, "retire-001", "retire-002")
    node.until_ended("retire-002")
    assert queued(node) == ["snapshot-02"]
    node.go_on()
    node.until_ended("snapshot-02")


def test_a_restore_runs_alone_and_reads_are_answered_meanwhile(node: ScriptedNode) -> None:
    node.start()
    submit(node, "restore-01")
    node.until_started("restore-01")
    submit(node, "snapshot-01", "succeed")
    submit(node, "retire-001", "succeed")
    answer = node.command("submit", "snapshot", "--json", "--op-id", "snapshot-01", "--timeout", "0.1")
    assert json.loads(answer.stdout)["state"] == "queued"
    rows = json.loads(node.command("ops", "list", "--json").stdout)["operations"]
    assert {row["state"] for row in rows} >= {"incoming"}
    assert len(node.ran()) == 1
    go_on(node, "restore-01")
    node.until_ended("snapshot-01")
    node.until_ended("retire-001")
    assert node.ran()[0][0] == "restore-01"


def test_a_restore_waits_for_both_slots_and_gets_its_turn_however_much_else_comes(node: ScriptedNode) -> None:
    node.start()
    submit(node, "snapshot-01")
    submit(node, "retire-001")
    node.until_started("snapshot-01")
    node.until_started("retire-001")
    submit(node, "restore-01")
    wait_until(lambda: queued(node) == ["restore-01"], "it is not queued")
    for number in range(2, 7):
        submit(node, f"snapshot-0{number}", "succeed")
        submit(node, f"retire-00{number}", "succeed")
    go_on(node, "snapshot-01")
    node.until_ended("snapshot-01")
    assert len(node.ran()) == 2
    go_on(node, "retire-001")
    node.until_started("restore-01")
    assert [line[0] for line in node.ran()][2:] == ["restore-01"]
    go_on(node, "restore-01")
    for number in range(2, 7):
        node.until_ended(f"snapshot-0{number}")
        node.until_ended(f"retire-00{number}")
    order = [line[0] for line in node.ran()]
    assert [op_id for op_id in order if op_id.startswith("snapshot")] == [
        f"snapshot-0{number}" for number in range(1, 7)
    ]


def test_what_came_before_a_restore_is_not_overtaken_by_it(node: ScriptedNode) -> None:
    node.start()
    submit(node, "snapshot-01")
    node.until_started("snapshot-01")
    submit(node, "snapshot-02", "succeed")
    wait_until(lambda: queued(node) == ["snapshot-02"], "it is not queued")
    submit(node, "restore-01", "succeed")
    go_on(node, "snapshot-01")
    node.until_ended("restore-01")
    assert [line[0] for line in node.ran()] == ["snapshot-01", "snapshot-02", "restore-01"]
