"""What the two kinds of workers share: the bound trace, the signal that asks them to end, and how an end is told."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agent import metrics, trace
from agent.domain import attempts
from agent.domain.request import ErrorResult, Record, Result, format_moment
from agent.errors import AgentError, Interrupted, of_the_node
from agent.logs import emit
from agent.operations.steps import Job, Operation, Steps

EXIT_DONE = 0
EXIT_CRASHED = 1
EXIT_INTERRUPTED = 70
EXIT_LOCKED = 75
INTERNAL_ERROR = "internal_error"
log = logging.getLogger(__name__)


@contextlib.contextmanager
def bound(record: Record) -> Iterator[None]:
    """Binds the operation's trace and a span of this worker; from here on SIGTERM raises Interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    request = record.request
    with (
        trace.bound(
            trace_id=request.trace_id,
            op_id=request.op_id,
            operation=request.operation,
            ssm_command_id=request.ssm_command_id,
            parent_span_id=request.span_id,
        ),
        trace.span(),
    ):
        yield


def decided() -> None:
    """What is decided is written down whole: SIGTERM is not heard any more."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def say_farewell(operation: Operation, job: Job, steps: Steps) -> None:
    """Gives back what the operation holds outside; when that can not be done, its end is told all the same."""
    if operation.farewell is None:
        return
    try:
        operation.farewell(job, steps)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here must not cost the result
        emit(
            log, logging.WARNING, "farewell.failed",
            f"what {job.request.op_id} holds outside stays for now: {type(error).__name__}: {error}",
        )  # fmt: skip


def explained(failure: Exception) -> ErrorResult:
    """What a result says of a failure. A defect of ours must end as a result too, never as a lost request."""
    known = of_the_node(failure) if isinstance(failure, OSError) else failure
    if isinstance(known, AgentError):
        return attempts.error_result(known)
    log.error(
        "the operation met an unexpected error", exc_info=failure, extra={"event": "operation.crashed"}
    )  # fmt: skip
    return ErrorResult(INTERNAL_ERROR, f"{type(failure).__name__}: {failure}", "report this with the log lines")


def log_result(result: Result, *, cancel_trace_id: str = "") -> None:
    """The line of an end."""
    duration_ms = sum(step.duration_ms for step in result.steps)
    if result.operation == "snapshot" and not cancel_trace_id and result.output.get("due") is not False:
        stored = result.output.get("stored") is True
        metrics.snapshot_ended(succeeded=result.status == "succeeded", stored=stored, duration_ms=duration_ms)
    fields: dict[str, object] = {"status": result.status, "duration_ms": duration_ms, "attempt": result.attempt}
    if result.error is None:
        emit(log, logging.INFO, "operation.finished", f"{result.operation} succeeded", **fields)
        return
    error = result.error
    fields |= {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}
    if cancel_trace_id:
        emit(
            log, logging.WARNING, "operation.cancelled", error.message, cancel_trace_id=cancel_trace_id, **fields
        )  # fmt: skip
        return
    event, level = (
        ("guard.refused", logging.WARNING) if result.status == "refused" else ("operation.failed", logging.ERROR)
    )
    emit(log, level, event, f"{result.operation} {result.status}: {error.message}", **fields)


def now(*, later_s: float = 0.0) -> str:
    """The time by the wall clock, as results have it."""
    return format_moment(datetime.now(UTC) + timedelta(seconds=later_s))


def _interrupt(signal_number: int, frame: object) -> None:
    raise Interrupted("this worker is asked to end")
