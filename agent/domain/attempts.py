"""Whether an operation whose worker is gone runs again, and what its end says when it does not. Pure."""

import msgspec

from agent.domain.request import (
    MOST_ATTEMPTS,
    MOST_REQUEST_BYTES,
    Acceptance,
    ErrorResult,
    Parking,
    Record,
    Request,
    Result,
    encode,
)
from agent.errors import AgentError, DeadlineExceeded, Parked, Refused, WorkerCrashed

RESULTS_CARRIED = 10


def time_left_s(acceptance: Acceptance, *, boot_id: str, boot_clock_s: float) -> float:
    """By the boot clock; after a reboot the time starts anew, since the old clock is gone."""
    if acceptance.boot_id != boot_id:
        return acceptance.timeout_s
    return acceptance.deadline_boot_s - boot_clock_s


def why_not_again(record: Record, left_s: float | None) -> AgentError | None:
    """DeadlineExceeded, WorkerCrashed after three attempts, or None. `left_s` is None for a request without a limit."""
    acceptance, op_id = record.acceptance, record.request.op_id
    if acceptance is not None and left_s is not None and left_s <= 0:
        return DeadlineExceeded(
            f"{op_id} was not done within {acceptance.timeout_s} s and was ended",
            hint="look at its steps in the log for what took so long; snapshot.timeout_s sets the limit",
        )
    if record.attempt >= MOST_ATTEMPTS:
        return WorkerCrashed(
            f"the worker of {op_id} ended without a result {record.attempt} times",
            hint=f"`etcd-agent trace {record.request.trace_id}` shows how far each attempt came; was memory short?",
        )
    return None


def ended(record: Record, failure: AgentError | ErrorResult, moment: str) -> Record:
    """The record with the result that an operation gets which no attempt ended."""
    request = record.request
    refused = isinstance(failure, Refused)
    error = error_result(failure) if isinstance(failure, AgentError) else failure
    result = Result(
        op_id=request.op_id, generation=record.generation, trace_id=request.trace_id, operation=request.operation,
        status="refused" if refused else "failed", attempt=record.attempt, started_at=moment, finished_at=moment,
        error=error,
    )  # fmt: skip
    return with_result(record, result)


def error_result(failure: AgentError) -> ErrorResult:
    """What a result says of a failure; a refusal's message begins with its rule."""
    if isinstance(failure, Refused):
        return ErrorResult(Refused.code, f"[{failure.rule}] {failure.message}", failure.hint, failure.retryable)
    return ErrorResult(failure.code, failure.message, failure.hint, failure.retryable)


def parked(record: Record, parked: Parked, *, moment: str, next_check_at: str) -> Record:
    """The record that waits, with the reason; it keeps the time since when it waits."""
    before = record.parking
    parking = Parking(
        parked.rule, parked.message, parked.hint, parked.priority, before.since if before else moment, moment,
        next_check_at,
    )  # fmt: skip
    return msgspec.structs.replace(record, parking=parking)


def overdue(parking: Parking) -> Refused:
    """What a parked operation ends with when its time is over: the last reason."""
    return Refused(
        f"it waited since {parking.since} and its time is over: {parking.message}", rule=parking.rule, hint=parking.hint
    )


def with_result(record: Record, result: Result) -> Record:
    """The record with its generation's result added."""
    return Record(record.request, record.generation, record.attempt, record.acceptance, (*record.results, result))


def next_generation(record: Record, request: Request) -> Record:
    """The request again, with as many of the newest results as `incoming/` has room for: a larger one is rejected."""
    results = record.results[-RESULTS_CARRIED:]
    while True:
        made = Record(request, record.generation + 1, results=results)
        if not results or len(encode(made)) <= MOST_REQUEST_BYTES:
            return made
        results = results[1:]
