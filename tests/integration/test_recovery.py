"""What a crash left is found: left to end, ended, or run again, and nothing is done twice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import process
from agent.adapters.spool import Spool
from agent.domain.request import Acceptance, Record
from tests.integration.intake_node import (
    FIRST,
    SECOND,
    Node,
    node_in,
    record,
    started_by_a_former_daemon,
    traced,
    traces_of,
)  # fmt: skip
from tests.sandbox.processes import wait_until
from tests.setup.debian import PROJECT

pytestmark = pytest.mark.integration


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_in(tmp_path) as made:
        yield made


@pytest.fixture
def with_trace(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with traced(caplog):
        yield


def test_a_crashed_worker_is_run_again(node: Node) -> None:
    node.submit(record(), "crash succeed")
    node.until(FIRST)
    assert [line[:3] for line in node.ran()] == [[FIRST, "1", "crash"], [FIRST, "2", "succeed"]]
    assert node.result(FIRST).attempt == 2


def test_after_three_crashes_it_is_failed_and_may_be_tried_anew(node: Node) -> None:
    node.submit(record(), "crash")
    node.until(FIRST)
    result = node.result(FIRST)
    assert (len(node.ran()), result.attempt, result.status) == (3, 3, "failed")
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("worker_crashed", True)
    assert node.nothing_is_left()


def test_a_worker_of_a_former_daemon_keeps_its_slot_and_is_left_to_end(node: Node) -> None:
    started_by_a_former_daemon(node, "hang")
    node.submit(record(SECOND))
    node.cycle()
    assert node.intake.has_orphans
    assert "started before a restart" in node.intake.describe()
    assert node.spool.names("incoming") == [f"{SECOND}.json"]
    node.go_on()
    node.until(FIRST, SECOND)
    assert [line[:2] for line in node.ran()] == [[FIRST, "1"], [SECOND, "1"]]


def test_a_hanging_worker_of_a_former_daemon_is_ended_at_its_deadline_too(node: Node) -> None:
    node.timeout_s = 1
    started_by_a_former_daemon(node, "deaf")
    node.until(FIRST)
    error = node.result(FIRST).error
    assert error is not None
    assert (error.code, len(node.ran())) == ("deadline_exceeded", 1)
    assert node.nothing_is_left()


def test_an_operation_whose_worker_died_with_its_daemon_is_run_again(node: Node) -> None:
    pid = started_by_a_former_daemon(node, "hang succeed")
    os.kill(pid, 9)
    node.until(FIRST)
    assert node.result(FIRST).attempt == 2


def late_worker(node: Node) -> int:
    """One that a former daemon started just before it died, and that comes to its lock only now. Its exit code."""
    worker = [sys.executable, "-m", "tests.integration.scripted_worker", str(node.root), FIRST]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(worker, env=environment, check=False, timeout=20).returncode


@pytest.mark.parametrize("attempt, decision", [(1, "update_running"), (3, "finish")])
def test_a_worker_that_comes_late_does_not_run_while_it_is_decided(
    node: Node, monkeypatch: pytest.MonkeyPatch, attempt: int, decision: str
) -> None:
    node.script(FIRST, "succeed")
    node.spool.update_running(Record(record().request, attempt=attempt))
    decide, exits = getattr(Spool, decision), list[int]()

    def slowly(self: Spool, one: Record) -> None:
        exits.append(late_worker(node))
        decide(self, one)
        monkeypatch.undo()

    monkeypatch.setattr(Spool, decision, slowly)
    node.until(FIRST)
    assert exits == [75]
    assert len(node.ran()) == (1 if attempt == 1 else 0)
    assert late_worker(node) == 0
    assert len(node.ran()) == (1 if attempt == 1 else 0)
    assert node.nothing_is_left()


def test_a_claim_is_made_with_the_lock_held(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    update, exits = Spool.update_running, list[int]()

    def slowly(self: Spool, one: Record) -> None:
        exits.append(late_worker(node))
        update(self, one)
        monkeypatch.undo()

    monkeypatch.setattr(Spool, "update_running", slowly)
    node.submit(record())
    node.until(FIRST)
    assert exits == [75]
    assert len(node.ran()) == 1


def test_a_claim_that_a_crash_cut_in_half_is_one_request(node: Node) -> None:
    node.submit(record())
    os.link(node.spool.path("incoming", FIRST), node.spool.path("running", FIRST))
    node.until(FIRST)
    assert len(node.ran()) == 1
    assert node.nothing_is_left()


def test_an_end_that_a_crash_cut_in_half_is_an_end(node: Node) -> None:
    node.submit(record())
    node.until(FIRST)
    done = node.spool.path("done", FIRST).read_bytes()
    node.spool.path("running", FIRST).write_bytes(done)
    node.spool.write_progress(FIRST, {"step": "work"})
    node.spool.path("incoming", FIRST).write_bytes(done)
    node.cycle()
    assert len(node.ran()) == 1
    assert node.nothing_is_left()
    assert node.spool.path("done", FIRST).read_bytes() == done


def test_after_a_reboot_its_time_starts_anew(node: Node) -> None:
    node.script(FIRST, "succeed")
    other_boot = Acceptance("2026-01-31T12:00:00Z", "another boot", 1.0, 1)
    node.spool.update_running(Record(record().request, 1, 1, other_boot))
    node.until(FIRST)
    assert (node.result(FIRST).status, node.result(FIRST).attempt) == ("succeeded", 2)


def test_a_damaged_record_of_what_ran_ends_in_rejected_and_nothing_of_its_attempt_is_left(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    pid = started_by_a_former_daemon(node, "deaf")
    node.spool.path("running", FIRST).write_bytes(b"{")
    (node.spool.folder / "running" / "...json").write_text("{")  # an op id that would be a path
    node.submit(record(SECOND))
    node.until(SECOND)

    def is_told() -> bool:
        node.cycle()
        return bool(node.spool.rejections.last(FIRST))

    wait_until(is_told, "it is not put aside")
    assert process.group_processes(pid, FIRST) == []
    assert node.nothing_is_left()
    told = [vars(line) for line in caplog.records if vars(line).get("event") == "request.damaged"]
    assert len(told) == 2
    assert (node.root / "work").exists()


def test_trouble_with_one_operation_does_not_end_the_service(
    node: Node, caplog: pytest.LogCaptureFixture, with_trace: None
) -> None:
    """A folder in the place of a file stands for a disk that does not take it."""
    node.spool.update_running(record())
    (node.root / "locks" / FIRST).mkdir()
    node.submit(record(SECOND))
    node.until(SECOND)
    assert traces_of("spool.trouble", caplog) == {"1" * 32}
    (node.root / "locks" / FIRST).rmdir()
    node.script(FIRST, "succeed")
    node.until(FIRST)


def test_a_worker_does_nothing_where_another_one_works(node: Node) -> None:
    started_by_a_former_daemon(node, "hang")
    second = subprocess.run(
        [sys.executable, "-m", "tests.integration.scripted_worker", str(node.root), FIRST],
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False, timeout=20,
    )  # fmt: skip
    assert second.returncode == 75
    assert len(node.ran()) == 1
