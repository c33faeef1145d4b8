"""Whether an operation runs again: three attempts, within its time, and what its end says otherwise."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import attempts
from agent.domain.request import MOST_ATTEMPTS, Acceptance, Record, make
from agent.errors import DeadlineExceeded, WorkerCrashed

ACCEPTANCE = Acceptance("2026-01-31T12:00:00Z", "boot-1", deadline_boot_s=1000.0, timeout_s=600)


def record(attempt: int = 1) -> Record:
    request = make(op_id="snapshot-1", operation="snapshot", trace_id="1" * 32, requested_at="2026-01-31T12:00:00Z")
    return Record(request, attempt=attempt, acceptance=ACCEPTANCE)


@given(st.floats(min_value=0, max_value=1e9))
def test_the_time_left_follows_the_boot_clock_alone(boot_clock_s: float) -> None:
    assert attempts.time_left_s(ACCEPTANCE, boot_id="boot-1", boot_clock_s=boot_clock_s) == 1000.0 - boot_clock_s
    assert attempts.time_left_s(ACCEPTANCE, boot_id="boot-2", boot_clock_s=boot_clock_s) == 600


@given(st.integers(0, 10), st.floats(-1e6, 1e6))
def test_it_runs_again_only_in_its_time_and_three_times_at_most(attempt: int, left_s: float) -> None:
    again = attempts.why_not_again(record(attempt), left_s) is None
    assert again == (left_s > 0 and attempt < MOST_ATTEMPTS)


@pytest.mark.parametrize("attempt, left_s, kind", [(3, 100.0, WorkerCrashed), (1, 0.0, DeadlineExceeded)])
def test_its_end_says_why_and_where_to_look(attempt: int, left_s: float, kind: type[Exception]) -> None:
    failure = attempts.why_not_again(record(attempt), left_s)
    assert isinstance(failure, kind)
    ended = attempts.ended(record(attempt), failure, "2026-01-31T12:10:00Z")
    assert ended.result is not None
    assert (ended.result.status, ended.result.attempt) == ("failed", attempt)
    assert ended.result.error is not None
    assert ended.result.error.retryable
    assert ended.result.error.hint
    assert msgspec.structs.replace(ended, results=()) == record(attempt)
