"""What a node asks of itself: joined while it waits or runs, a new generation after it ended, failures counted."""

from pathlib import Path

import pytest

from agent.adapters.spool import Spool
from agent.adapters.spool_own import OwnRequests
from agent.domain import request as requests
from agent.domain.attempts import with_result
from agent.domain.request import ErrorResult, Request, Result, Status

OP_ID = "snapshot-0123456789abcdef"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path)
    made.create()
    return made


def asked(minute: int = 0) -> Request:
    return requests.make(
        op_id=OP_ID, operation="snapshot", trace_id="1" * 32, requested_at=f"2026-01-31T12:{minute:02}:00Z"
    )


def end(spool: Spool, status: Status, minute: int = 0, message: str = "") -> None:
    spool.read("incoming", OP_ID)
    spool.claim(OP_ID)
    record = spool.read("running", OP_ID)
    at, error = f"2026-01-31T12:{minute:02}:00Z", ErrorResult("etcd_error", message) if message else None
    made = Result(OP_ID, record.generation, "1" * 32, "snapshot", status, 1, at, at, error=error)
    spool.finish(with_result(record, made))


def test_what_waits_or_runs_is_joined(spool: Spool) -> None:
    own = OwnRequests(spool)
    assert [own.ask(asked()), own.ask(asked())] == [True, False]
    spool.claim(OP_ID)
    assert not own.ask(asked())
    assert own.failures(OP_ID).count == 0


@pytest.mark.parametrize("status", ["succeeded", "failed", "refused"])
def test_what_ended_is_asked_again_with_its_own_time(spool: Spool, status: Status) -> None:
    own = OwnRequests(spool)
    own.ask(asked())
    end(spool, status)
    assert own.ask(asked(minute=5))
    record = spool.read("incoming", OP_ID)
    assert (record.generation, record.request.requested_at) == (2, "2026-01-31T12:05:00Z")


def test_failures_in_a_row_are_counted_up_to_the_last_success(spool: Spool) -> None:
    own = OwnRequests(spool)
    statuses: list[Status] = ["failed", "succeeded", "failed", "refused"]
    for minute, status in enumerate(statuses):
        own.ask(asked())
        end(spool, status, minute)
    failures = own.failures(OP_ID)
    assert (failures.count, failures.last_at) == (2, "2026-01-31T12:03:00Z")


def test_a_record_stays_small_however_often_it_fails(spool: Spool) -> None:
    own = OwnRequests(spool)
    for _ in range(30):
        own.ask(asked())
        end(spool, "failed")
    assert len(spool.read("failed", OP_ID).results) == 11
    assert own.failures(OP_ID).count == 11


def test_a_damaged_end_is_no_end_of_all_that_would_follow(spool: Spool) -> None:
    own = OwnRequests(spool)
    spool.path("failed", OP_ID).write_bytes(b"\0" * 100)
    assert own.failures(OP_ID).count == 0
    assert own.ask(asked())
    end(spool, "failed")
    assert own.failures(OP_ID).count == 1


def test_results_with_long_messages_never_make_a_request_that_is_rejected_for_its_size(spool: Spool) -> None:
    own = OwnRequests(spool)
    for length in (20_000, 20_000, 20_000, 20_000, 100_000):
        own.ask(asked())
        end(spool, "failed", message="x" * length)
    assert own.failures(OP_ID).count >= 3
    assert own.ask(asked())
    assert spool.read("incoming", OP_ID).generation == 6
