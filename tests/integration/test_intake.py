"""What becomes of requests: claimed once, run one at a time, ended in time, and run again after a crash."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import process
from agent.adapters.spool import ENDS, Spool
from agent.domain import request as requests
from agent.domain.request import Acceptance, Record, Result
from agent.intake import Intake, Running
from agent.logs import ContextFilter
from tests.sandbox.processes import wait_until
from tests.setup.debian import PROJECT

pytestmark = pytest.mark.integration
FIRST, SECOND = "snapshot-1111", "snapshot-2222"


def record(op_id: str = FIRST, *, generation: int = 1, results: tuple[Result, ...] = (), **changes: Any) -> Record:
    fields = {"op_id": op_id, "operation": "snapshot", "trace_id": "1" * 32, "requested_at": "2026-01-31T12:00:00Z"}
    return Record(requests.make(**fields | changes), generation, results=results)


@dataclass
class Node:
    """Real folders and real workers, with an intake that the test drives instead of a daemon."""

    root: Path
    timeout_s: int = 60

    def __post_init__(self) -> None:
        self.spool = Spool(self.root / "spool")
        self.spool.create()
        for name in ("locks", "work", "script"):
            (self.root / name).mkdir()
        self.forgotten: list[Running] = []  # workers of former daemons
        self.intake = self.new_intake()

    def new_intake(self) -> Intake:
        """As a daemon makes it when it starts."""
        return Intake(
            spool=self.spool, locks=self.root / "locks", work=self.root / "work",
            timeout_s=lambda operation: self.timeout_s,
            worker_argv=[sys.executable, "-m", "tests.integration.scripted_worker", str(self.root)],
            environment={**os.environ, "PYTHONPATH": str(PROJECT)}, clean_up_s=0.3,
        )  # fmt: skip

    def script(self, op_id: str, words: str) -> None:
        (self.root / "script" / op_id).write_text(words)

    def submit(self, one: Record, words: str = "succeed") -> None:
        self.script(one.request.op_id, words)
        assert self.spool.submit(one)

    def cycle(self) -> None:
        """One turn of the daemon's loop."""
        self.intake.reap()
        self.intake.recover()
        self.intake.start_new()

    def until(self, *op_ids: str) -> None:
        def all_ended() -> bool:
            self.cycle()
            found = [self.spool.find(op_id) for op_id in op_ids]
            return all(one is not None and one.state in ENDS for one in found) and not self.intake.running

        wait_until(all_ended, f"{op_ids} do not end")

    def until_started(self, op_id: str, attempt: int = 1) -> int:
        """The pid of that attempt's worker."""

        def started() -> bool:
            self.cycle()
            return any(line[:2] == [op_id, str(attempt)] for line in self.ran())

        wait_until(started, f"attempt {attempt} of {op_id} does not start")
        return next(int(line[3]) for line in self.ran() if line[:2] == [op_id, str(attempt)])

    def result(self, op_id: str) -> Result:
        found = self.spool.find(op_id)
        assert found is not None
        assert found.record.result is not None
        return found.record.result

    def ran(self) -> list[list[str]]:
        path = self.root / "ran"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def go_on(self) -> None:
        (self.root / "go-on").touch()

    def reasons(self) -> list[dict[str, str]]:
        return [json.loads(path.read_text()) for path in (self.spool.folder / "rejected").glob("*.reason.json")]

    def nothing_is_left(self) -> bool:
        names = [name for state in ("incoming", "running", "progress") for name in self.spool.names(state)]
        return not names and not list((self.root / "work").iterdir())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for running in [*made.intake.running.values(), *made.forgotten]:
        process.kill_group(running.process.pid, running.record.request.op_id)
        running.process.child.wait()


@pytest.fixture
def with_trace(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Lines get the context that is bound when they are written, as the log file's do."""
    context = ContextFilter({})
    caplog.handler.addFilter(context)
    yield
    caplog.handler.removeFilter(context)


def traces_of(event: str, caplog: pytest.LogCaptureFixture) -> set[object]:
    return {vars(line).get("trace_id") for line in caplog.records if vars(line).get("event") == event}


def started_by_a_former_daemon(node: Node, words: str) -> int:
    """An operation whose worker lives while its daemon does not. Returns the worker's pid."""
    node.submit(record(), words)
    pid = node.until_started(FIRST)
    node.forgotten += node.intake.running.values()
    node.intake = node.new_intake()
    return pid


def test_an_operation_runs_to_its_result(node: Node) -> None:
    node.submit(record())
    node.until(FIRST)
    result = node.result(FIRST)
    assert (result.status, result.attempt, result.output, result.trace_id) == (
        "succeeded", 1, {"attempt": 1}, "1" * 32,
    )  # fmt: skip
    assert [step.name for step in result.steps] == ["work"]
    assert node.nothing_is_left()
    assert "idle; 0 queued; 1 ended" in node.intake.describe()


@pytest.mark.parametrize(
    "word, state, code, retryable",
    [
        ("fail", "failed", "snapshot_invalid", False),
        ("fail-for-now", "failed", "etcd_unavailable", True),
        ("refuse", "refused", "refused", False),
        ("break", "failed", "internal_error", False),
    ],
)
def test_however_it_ends_there_is_a_result_and_nothing_else(
    node: Node, word: str, state: str, code: str, retryable: bool
) -> None:
    node.submit(record(), word)
    node.until(FIRST)
    assert node.spool.names(state) == [f"{FIRST}.json"]
    error = node.result(FIRST).error
    assert error is not None
    assert (error.code, error.retryable) == (code, retryable)
    assert error.hint
    assert len(node.ran()) == 1
    assert node.nothing_is_left()


def test_one_runs_per_slot_and_the_oldest_first(node: Node) -> None:
    node.submit(record(FIRST), "hang")
    node.submit(record(SECOND))
    os.utime(node.spool.path("incoming", SECOND), ns=(0, 0))
    node.script(SECOND, "hang")
    node.until_started(SECOND)
    assert "1 queued" in node.intake.describe()
    assert f"snapshot {SECOND}" in node.intake.describe()
    assert node.spool.names("incoming") == [f"{FIRST}.json"]
    node.go_on()
    node.until(FIRST, SECOND)
    assert [line[0] for line in node.ran()] == [SECOND, FIRST]


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


def test_a_duplicate_of_what_runs_is_dropped_and_told(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.submit(record(), "hang")
    node.until_started(FIRST)
    caplog.set_level("INFO")
    assert node.spool.submit(record(trace_id="2" * 32))
    node.cycle()
    assert node.spool.names("incoming") == []
    assert [vars(line)["first_trace_id"] for line in caplog.records if vars(line).get("event") == "trace.adopted"] == [
        "1" * 32
    ]
    node.go_on()
    node.until(FIRST)
    assert (len(node.ran()), node.result(FIRST).trace_id) == (1, "1" * 32)


@pytest.mark.parametrize("ended", [False, True])
def test_other_work_under_an_id_that_is_known_is_rejected(
    node: Node, caplog: pytest.LogCaptureFixture, with_trace: None, ended: bool
) -> None:
    node.submit(record(), "hang")
    node.until_started(FIRST)
    if ended:
        node.go_on()
        node.until(FIRST)
    assert node.spool.submit(record(params={"emergency": "true"}))
    node.cycle()
    assert node.spool.names("incoming") == []
    assert ["other" in reason["reason"] for reason in node.reasons()] == [True]
    assert traces_of("request.rejected", caplog) == {"1" * 32}
    node.go_on()
    node.until(FIRST)
    assert len(node.ran()) == 1


def test_a_new_generation_runs_and_keeps_the_results_of_the_former_ones(node: Node) -> None:
    node.submit(record(), "refuse")
    node.until(FIRST)
    first = node.result(FIRST)
    node.submit(record(generation=2, results=(first,)), "fail-for-now")
    node.until(FIRST)
    second = node.result(FIRST)
    node.submit(record(generation=3, results=(first, second)), "succeed")
    node.until(FIRST)
    found = node.spool.find(FIRST)
    assert found is not None
    assert (found.state, found.record.generation) == ("done", 3)
    assert [result.status for result in found.record.results] == ["refused", "failed", "succeeded"]
    assert [name for state in ENDS for name in node.spool.names(state)] == [f"{FIRST}.json"]
    assert node.spool.submit(record(generation=2))
    node.cycle()
    assert len(node.ran()) == 3


def make_garbage(node: Node) -> list[str]:
    incoming = node.spool.folder / "incoming"
    (incoming / "no-json.txt").write_text("x")
    (incoming / "folder-1.json").mkdir()
    (incoming / "link-1234.json").symlink_to("/etc/passwd")
    (incoming / "garbage-1.json").write_bytes(b"\xff{")
    (incoming / "large-123.json").write_bytes(b" " * (requests.MOST_REQUEST_BYTES + 1))
    (incoming / "other-123.json").write_bytes(requests.encode(record()))
    os.mkfifo(incoming / "fifo-1234.json")
    (incoming / f"{'n' * 200}.json").write_text("{}")
    (incoming / "new\nline.json").write_text("{}")
    (incoming / ("\N{EURO SIGN}" * 80 + ".json")).write_text("{}")  # few characters, many bytes
    return sorted(path.name for path in incoming.iterdir())


def test_what_is_no_request_is_put_aside_with_its_reason_and_hinders_nobody(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = make_garbage(node)
    node.submit(record(SECOND))
    node.until(SECOND)
    assert node.spool.names("incoming") == []
    assert sorted(reason["name"] for reason in node.reasons()) == garbage
    assert all(reason["reason"] and reason["rejected_at"] for reason in node.reasons())
    told = [line for line in caplog.records if vars(line).get("event") == "request.rejected"]
    assert len(told) == len(garbage)
    assert all(line.levelname == "ERROR" for line in told)


def test_a_request_can_not_bring_attempts_of_its_own(node: Node) -> None:
    node.submit(Record(record().request, attempt=1000))
    node.until(FIRST)
    assert (node.result(FIRST).status, node.result(FIRST).attempt) == ("succeeded", 1)


def test_an_unfinished_write_is_no_request_yet(node: Node) -> None:
    temporary = node.spool.folder / "incoming" / ".snapshot-1.json.0123abcd.tmp"
    temporary.write_bytes(b"{")
    node.cycle()
    assert temporary.exists()
    assert node.reasons() == []


def test_a_damaged_record_of_what_ran_is_told_and_stops_nobody(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.spool.path("running", FIRST).write_bytes(b"{")
    node.submit(record(SECOND))
    node.until(SECOND)
    assert "request.damaged" in {vars(line).get("event") for line in caplog.records}


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


def test_a_worker_that_can_not_be_started_is_tried_again(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.submit(record())
    working, node.intake = node.intake, Intake(
        spool=node.spool, locks=node.root / "locks", work=node.root / "work", worker_argv=["/nonexistent"],
        environment={}, timeout_s=lambda operation: 60,
    )  # fmt: skip
    node.cycle()
    assert "spool.trouble" in {vars(line).get("event") for line in caplog.records}
    node.intake = working
    node.until(FIRST)


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


def test_a_worker_does_nothing_where_another_one_works(node: Node) -> None:
    started_by_a_former_daemon(node, "hang")
    second = subprocess.run(
        [sys.executable, "-m", "tests.integration.scripted_worker", str(node.root), FIRST],
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False, timeout=20,
    )  # fmt: skip
    assert second.returncode == 75
    assert len(node.ran()) == 1


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
