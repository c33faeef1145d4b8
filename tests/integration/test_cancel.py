"""`ops cancel`: what waits never starts, what runs ends clean, what ended keeps its result, and no crash loses it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.cancellation import Cancellation
from tests.integration.scripted_node import ScriptedNode, is_alive, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
FIRST, SECOND = "snapshot-1111", "snapshot-2222"
TRACE_ID = "2" * 32


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScriptedNode]:
    with node_in(tmp_path) as made:
        yield made


def cancel(node: ScriptedNode, op_id: str, *words: str) -> tuple[int, dict[str, Any]]:
    ended = node.command("ops", "cancel", op_id, "--json", *words, TRACE_ID=TRACE_ID)
    assert "Traceback" not in ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def ask(node: ScriptedNode, op_id: str, generation: int = 1) -> None:
    """What the command leaves, without the command."""
    asked = Cancellation(op_id, generation, TRACE_ID, "2026-01-31T12:00:00Z")
    assert node.spool.cancellations.ask(asked)


def is_cancelled(node: ScriptedNode, op_id: str) -> bool:
    result = node.until_ended(op_id)
    assert result.error is not None
    return (result.status, result.error.code, result.error.retryable) == ("failed", "cancelled", False)


def until_clean(node: ScriptedNode) -> None:
    wait_until(
        lambda: node.nothing_is_left(("incoming", "waiting", "running", "progress", "cancel")), "something is left"
    )


def test_what_is_queued_never_starts(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "hang")
    node.until_started(FIRST)
    node.submit(SECOND)
    code, answer = cancel(node, SECOND)
    assert (code, answer["cancelled"], answer["state"]) == (0, True, "failed")
    assert answer["result"]["attempt"] == 0
    assert is_cancelled(node, SECOND)
    node.go_on()
    node.until_ended(FIRST)
    assert node.ran(SECOND) == []
    until_clean(node)


def test_what_runs_cleans_up_and_the_next_one_starts(node: ScriptedNode) -> None:
    node.start(CLEAN_UP_S="20")
    node.submit(FIRST, "hang")
    node.until_started(FIRST)
    node.submit(SECOND)
    code, answer = cancel(node, FIRST)
    assert (code, answer["cancelled"]) == (0, True)
    assert is_cancelled(node, FIRST)
    assert [line[0] for line in written(node, "farewells")] == [FIRST]
    assert [line[0] for line in written(node, "left")][:1] == [FIRST]
    assert node.until_ended(SECOND).status == "succeeded"
    until_clean(node)


def written(node: ScriptedNode, name: str) -> list[list[str]]:
    path = node.state / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_what_does_not_hear_is_killed_and_a_caretaker_says_its_farewell(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "deaf")
    pid = node.until_started(FIRST)
    assert cancel(node, FIRST)[0] == 0
    assert is_cancelled(node, FIRST)
    assert not is_alive(pid)
    assert [line[:3] for line in written(node, "farewells")] == [[FIRST, "1", "farewell"]]
    assert len(node.ran()) == 1
    until_clean(node)


def test_a_farewell_that_is_never_said_does_not_keep_the_end_from_coming(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "deaf")
    node.until_started(FIRST)
    (node.state / "farewell-hangs").touch()
    ask(node, FIRST)
    wait_until(lambda: bool(written(node, "farewells")), "no farewell")
    os.kill(int(written(node, "farewells")[0][3]), signal.SIGKILL)
    assert is_cancelled(node, FIRST)
    until_clean(node)


def test_a_duplicate_of_its_event_does_not_start_it_again(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "hang")
    node.until_started(FIRST)
    assert cancel(node, FIRST)[0] == 0
    again = node.command("submit", "snapshot", "--json", "--op-id", FIRST)
    assert (again.returncode, json.loads(again.stdout)["result"]["error"]["code"]) == (1, "cancelled")
    assert node.spool.submit(node.record(FIRST))  # one that another command put there at the same time
    wait_until(lambda: not node.spool.names("incoming"), "the duplicate stays")
    assert len(node.ran()) == 1


def test_asked_twice_it_is_answered_twice_and_both_traces_find_it(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "hang")
    node.until_started(FIRST)
    first, second = cancel(node, FIRST), cancel(node, FIRST)
    assert first[0] == second[0] == 0
    assert first[1]["result"] == second[1]["result"]
    (asked,) = node.events("cancel.asked")
    assert (asked["trace_id"], asked["operation_trace_id"], asked["op_id"]) == (TRACE_ID, "1" * 32, FIRST)
    (ended,) = node.events("operation.cancelled")
    assert (ended["trace_id"], ended["cancel_trace_id"], ended["op_id"]) == ("1" * 32, TRACE_ID, FIRST)


def test_what_has_ended_keeps_its_result(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST)
    node.until_ended(FIRST)
    code, answer = cancel(node, FIRST)
    assert (code, answer["error"]["code"]) == (1, "already_ended")
    ask(node, FIRST)  # as one that was asked just before the end
    until_clean(node)
    assert node.result(FIRST).status == "succeeded"


def test_what_is_not_known_is_told(node: ScriptedNode) -> None:
    node.start()
    code, answer = cancel(node, "snapshot-none")
    assert code == 1
    assert "knows no operation" in answer["error"]["message"]
    assert cancel(node, "../../x")[0] == 2
    ask(node, "snapshot-none")
    until_clean(node)


def test_without_a_daemon_it_is_kept_and_counts_later(node: ScriptedNode) -> None:
    node.spool.create()
    (node.state / "work").mkdir()
    node.submit(FIRST)
    code, answer = cancel(node, FIRST, "--no-wait")
    assert (code, answer["cancelled"]) == (0, False)
    code, answer = cancel(node, FIRST)
    assert (code, answer["error"]["code"]) == (5, "no_daemon")
    assert "is kept" in answer["error"]["message"]
    node.start()
    assert is_cancelled(node, FIRST)
    assert node.ran() == []
    until_clean(node)


def test_a_dry_run_says_what_would_happen_and_changes_nothing(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "hang")
    node.until_started(FIRST)
    node.submit(SECOND)
    assert cancel(node, FIRST, "--dry-run")[1]["plan"].startswith("its worker is asked")
    assert cancel(node, SECOND, "--dry-run")[1]["would_cancel"]
    node.go_on()
    node.until_ended(SECOND)
    code, answer = cancel(node, SECOND, "--dry-run")
    assert (code, answer["would_cancel"], answer["error"]["code"]) == (1, False, "already_ended")
    assert node.result(FIRST).status == "succeeded"


@pytest.mark.parametrize("word", ["commit", "commit-crash commit"])
def test_beyond_the_point_of_no_return_it_goes_on(node: ScriptedNode, word: str) -> None:
    node.start()
    node.submit(FIRST, word)
    node.until_started(FIRST, len(word.split()))
    wait_until(lambda: node.spool.read("running", FIRST).committed, "the mark does not come")
    code, answer = cancel(node, FIRST)
    assert (code, answer["error"]["code"]) == (3, "refused")
    assert "[no-return]" in answer["error"]["message"]
    ask(node, FIRST)
    node.submit(SECOND)
    node.go_on()
    assert node.until_ended(FIRST).status == "succeeded"
    until_clean(node)


def test_a_worker_that_dies_beyond_it_runs_again_and_is_not_cancelled(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "commit")
    pid = node.until_started(FIRST)
    wait_until(lambda: node.spool.read("running", FIRST).committed, "the mark does not come")
    ask(node, FIRST)
    os.kill(pid, signal.SIGKILL)
    node.until_started(FIRST, 2)
    node.go_on()
    result = node.until_ended(FIRST)
    assert (result.status, result.attempt) == ("succeeded", 2)
    until_clean(node)


def test_a_command_that_waits_learns_that_the_point_was_passed(node: ScriptedNode) -> None:
    """The cancellation lies there before the mark, but the worker looked a moment earlier."""
    node.start()
    node.submit(FIRST, "commit")
    node.until_started(FIRST)
    wait_until(lambda: node.spool.read("running", FIRST).committed, "the mark does not come")
    ask(node, FIRST)
    code, answer = cancel(node, FIRST)
    assert (code, answer["error"]["code"]) == (3, "refused")


def test_a_crash_of_the_daemon_and_the_worker_loses_no_cancellation(node: ScriptedNode) -> None:
    daemon = node.start(CLEAN_UP_S="60")
    node.submit(FIRST, "deaf")
    pid = node.until_started(FIRST)
    ask(node, FIRST)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    node.start()
    assert is_cancelled(node, FIRST)
    assert len(node.ran()) == 1
    until_clean(node)


def test_a_worker_that_outlived_its_daemon_is_cancelled_too(node: ScriptedNode) -> None:
    daemon = node.start()
    node.submit(FIRST, "deaf")
    pid = node.until_started(FIRST)
    daemon.kill()
    ask(node, FIRST)
    node.start()
    assert is_cancelled(node, FIRST)
    assert not is_alive(pid)
    until_clean(node)


def test_it_is_for_one_generation_alone(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "fail-for-now")
    first = node.until_ended(FIRST)
    node.script(FIRST, "succeed")
    ask(node, FIRST, 1)
    until_clean(node)
    again = node.command("submit", "snapshot", "--json", "--op-id", FIRST)
    assert again.returncode == 0
    assert node.result(FIRST).generation == first.generation + 1


def test_what_is_no_cancellation_is_put_aside(node: ScriptedNode) -> None:
    node.start()
    (node.spool.folder / "cancel" / "x.json").write_text("{}")
    (node.spool.folder / "cancel" / f"{FIRST}.1.json").write_text("{}")
    wait_until(lambda: bool(node.spool.rejections.last(f"{FIRST}.1") and node.spool.rejections.last("x")), "it stays")
    assert not node.spool.names("cancel")
