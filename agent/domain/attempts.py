"""Whether an operation whose worker is gone runs again, and what its end says when it does not. Pure."""

from agent.domain.request import MOST_ATTEMPTS, Acceptance, ErrorResult, Record, Result
from agent.errors import AgentError, DeadlineExceeded, WorkerCrashed


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


def failed(record: Record, failure: AgentError, moment: str) -> Record:
    """The record with the result that an operation gets which no worker could end."""
    request = record.request
    result = Result(
        op_id=request.op_id, generation=record.generation, trace_id=request.trace_id, operation=request.operation,
        status="failed", attempt=max(1, record.attempt), started_at=moment, finished_at=moment,
        error=ErrorResult(failure.code, failure.message, failure.hint, failure.retryable),
    )  # fmt: skip
    return with_result(record, result)


def with_result(record: Record, result: Result) -> Record:
    """The record with its generation's result added."""
    return Record(record.request, record.generation, record.attempt, record.acceptance, (*record.results, result))
