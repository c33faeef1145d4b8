"""Workers end in time and with all that they started, and leave a result or nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import process
from agent.adapters.files import Lock
from agent.domain import request as requests
from agent.domain.request import Acceptance, Record
from tests.integration.intake_node import FIRST, Node, node_in, record
from tests.sandbox.processes import wait_until
from tests.setup.debian import PROJECT

pytestmark = pytest.mark.integration


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_in(tmp_path) as made:
        yield made


@pytest.mark.parametrize("words", ["orphan hang", "leave"])
def test_what_a_worker_started_ends_with_it_however_it_ends(node: Node, words: str) -> None:
    node.submit(record(), words)
    if words == "leave":
        node.until(FIRST)
    else:
        node.until_started(FIRST, attempt=2)
    orphan = Path("/proc", (node.root / "orphan").read_text(), "stat")
    assert not orphan.exists() or orphan.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("word", ["hang", "deaf"])
def test_at_its_deadline_it_is_ended_and_nothing_is_left(node: Node, word: str) -> None:
    node.timeout_s = 1
    node.submit(record(), word)
    node.until(FIRST)
    error = node.result(FIRST).error
    assert error is not None
    assert (error.code, error.retryable) == ("deadline_exceeded", True)
    assert (len(node.ran()), node.result(FIRST).attempt) == (1, 1)
    assert node.nothing_is_left()


def test_the_loop_is_told_when_a_time_is_over(node: Node) -> None:
    assert node.intake.next_deadline_in_s() is None
    node.submit(record(), "hang")
    node.until_started(FIRST)
    left_s = node.intake.next_deadline_in_s()
    assert left_s is not None
    assert 30 < left_s <= 60


def test_time_that_was_over_before_a_restart_ends_it_without_another_attempt(node: Node) -> None:
    late = Acceptance("2026-01-31T12:00:00Z", process.boot_id(), process.boot_clock_s() - 1, 1)
    node.spool.update_running(Record(record().request, 1, 1, late))
    node.until(FIRST)
    error = node.result(FIRST).error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert node.ran() == []


def test_a_jump_of_the_wall_clock_changes_nothing(node: Node) -> None:
    node.submit(record(requested_at="2099-01-01T00:00:00Z"))
    node.until(FIRST)
    assert node.result(FIRST).status == "succeeded"


def stop_worker(node: Node, times: int) -> None:
    """Waits for that start of the operation and stops it as a stopping daemon does."""

    def started() -> bool:
        node.cycle()
        return len(node.ran()) == times

    wait_until(started, f"start {times} does not come")
    worker = node.intake.running["backup"].process
    worker.terminate()
    wait_until(lambda: worker.poll() is not None, "the worker does not end")
    node.intake.reap(rerun=False)


def test_a_stopped_worker_cleans_up_and_runs_again_later_at_no_cost(node: Node) -> None:
    node.submit(record(), "hang")
    for times in range(1, requests.MOST_ATTEMPTS + 2):
        stop_worker(node, times)
        assert node.spool.names("running") == [f"{FIRST}.json"]
        assert not list((node.root / "work").iterdir())
    node.go_on()
    node.until(FIRST)
    assert (node.result(FIRST).status, node.result(FIRST).attempt) == ("succeeded", 1)


def test_a_result_that_can_not_be_written_is_told_under_its_trace_and_the_work_is_done_again(node: Node) -> None:
    (node.spool.folder / "done").rmdir()
    (node.spool.folder / "done").touch()
    node.submit(record())
    node.until_started(FIRST, attempt=2)
    (node.spool.folder / "done").unlink()
    (node.spool.folder / "done").mkdir()
    node.until(FIRST)
    lines = [json.loads(line) for line in (node.root / "agent.jsonl").read_text().splitlines()]
    assert "worker.crashed" in {line["event"] for line in lines}
    assert {(line.get("trace_id"), line.get("op_id")) for line in lines} == {("1" * 32, FIRST)}


def test_a_work_folder_that_can_not_be_used_is_no_defect_and_may_be_tried_anew(node: Node) -> None:
    (node.root / "work" / FIRST).touch()  # a file in the place of a folder
    node.submit(record())
    node.until(FIRST)
    error = node.result(FIRST).error
    assert error is not None
    assert (error.code, error.retryable) == ("file_unusable", True)


def test_only_what_is_surely_abandoned_is_cleared_away(node: Node) -> None:
    """Of other operations: one that runs, one that waits, one whose lock is held, one that is nobody's any more."""
    held = Lock(node.root / "locks" / "snapshot-held")
    assert held.try_acquire()
    node.spool.update_running(record("snapshot-runs"))
    node.spool.park(record("snapshot-waits"))
    for name in ("snapshot-held", "snapshot-runs", "snapshot-waits", "snapshot-gone", "no_op_id"):
        folder = node.root / "work" / name / "1"
        folder.mkdir(parents=True)
        (folder / "snapshot.db").touch()
    node.spool.update_running(record(FIRST))
    node.script(FIRST, "succeed")
    worker = [sys.executable, "-m", "tests.integration.scripted_worker", str(node.root), FIRST]
    subprocess.run(worker, check=True, timeout=30, cwd=PROJECT)
    left = sorted(path.name for path in (node.root / "work").iterdir())
    assert left == ["no_op_id", "snapshot-held", "snapshot-runs", "snapshot-waits"]
    assert not (node.root / "locks" / "snapshot-gone").exists()
    held.release()
    for name in ("running", "waiting"):
        shutil.rmtree(node.spool.folder / name)
