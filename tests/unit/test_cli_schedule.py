"""The part `schedule` of `status`: what the newest look said, how it is by now, and what is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.cli import schedule_part
from agent.domain import request as requests
from agent.domain.attempts import with_result
from agent.domain.cluster_health import Problem
from agent.domain.request import ErrorResult, Record, Result, format_moment
from agent.node import Node, load_node

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LOOKED = {
    "decision": "young", "reason": "the newest good snapshot is young enough", "look_again_in_s": 300.0,
    "newest_good": "id", "age_s": 7200, "due_in_s": 9000, "missed": 0, "store_away": None,
    "slot": {"slot": 7, "state": "done", "node": "node-2"},
}  # fmt: skip


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    return load_node()


def look(node: Node, ago_s: float, **changes: object) -> None:
    node.spool.create()
    looked_at = format_moment(NOW - timedelta(seconds=ago_s))
    request = requests.make(
        op_id=node.look_op_id, operation="schedule", trace_id="1" * 32, requested_at=looked_at, source="node"
    )
    output = {**LOOKED, "looked_at": looked_at, **changes}
    result = Result(node.look_op_id, 1, "1" * 32, "schedule", "succeeded", 1, looked_at, looked_at, output=output)
    node.spool.finish(with_result(Record(request), result))


def told(node: Node) -> tuple[str, list[Problem]]:
    problems: list[Problem] = []
    return schedule_part.line(schedule_part.describe(node, problems, NOW)), problems


def test_before_the_first_look_nothing_is_wrong(node: Node) -> None:
    assert told(node) == ("on, no look yet", [])
    node.spool.create()
    assert told(node) == ("on, no look yet", [])


def test_the_newest_look_is_told_with_the_time_that_passed_since(node: Node) -> None:
    look(node, 120)
    line, problems = told(node)
    assert line.startswith("looked 2 min")
    assert "young enough; next due in 2 h 28 min; slot 7 done by node-2" in line
    assert problems == []
    look(node, 120, due_in_s=-5, slot=None)
    assert told(node)[0].endswith("next due now")


def test_a_missed_slot_is_a_problem_with_its_reason(node: Node) -> None:
    look(node, 10, missed=2, reason="this node's etcd member does not answer", age_s=50000, due_in_s=-33800)
    line, problems = told(node)
    assert "2 missed" in line
    (problem,) = problems
    assert "2 slots were missed: this node's etcd member does not answer" in problem.message
    assert "snapshot create" in problem.hint


def test_where_a_daemon_runs_and_nobody_looks_that_is_a_problem(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    look(node, 3600)
    assert told(node)[1] == []
    monkeypatch.setattr(Node, "daemon_is_there", True)
    assert "nobody looked for 1 h" in told(node)[1][0].message


def test_a_look_that_failed_is_a_problem_and_says_why(node: Node) -> None:
    node.spool.create()
    at = format_moment(NOW)
    request = requests.make(
        op_id=node.look_op_id, operation="schedule", trace_id="1" * 32, requested_at=at, source="node"
    )
    error = ErrorResult("internal_error", "it broke", "report this")
    result = Result(node.look_op_id, 1, "1" * 32, "schedule", "failed", 1, at, at, error=error)
    node.spool.finish(with_result(Record(request), result))
    line, problems = told(node)
    assert line == "on, the newest look failed"
    assert (problems[0].message, problems[0].hint) == (f"the newest look, at {at}, failed: it broke", "report this")


def test_off_is_told_and_no_old_look(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    look(node, 10)
    monkeypatch.setenv("ETCD_AGENT_SNAPSHOT__SCHEDULE", "false")
    assert told(load_node()) == ("off by snapshot.schedule", [])
