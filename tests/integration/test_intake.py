"""What becomes of requests: claimed once, run one at a time, and what is none is put aside."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.spool import ENDS
from agent.domain import request as requests
from agent.domain.request import Record
from agent.intake import Intake
from tests.integration.intake_node import FIRST, SECOND, Node, node_in, record, traced, traces_of

pytestmark = pytest.mark.integration


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_in(tmp_path) as made:
        yield made


@pytest.fixture
def with_trace(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with traced(caplog):
        yield


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
