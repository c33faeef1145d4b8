"""Runs one request in a process of its own: lock, bind the trace, run the steps, leave a result.

The only place besides the command's edge that catches every error: whatever happens ends as a result.
"""

import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agent import trace
from agent.adapters import process
from agent.adapters.files import Lock
from agent.adapters.spool import Spool
from agent.domain.attempts import with_result
from agent.domain.request import ErrorResult, Record, Result, Status, format_moment
from agent.errors import AgentError, Interrupted, Refused, of_the_node
from agent.logs import emit
from agent.operations import leftovers
from agent.operations.steps import Job, Steps

EXIT_DONE = 0
EXIT_CRASHED = 1
EXIT_INTERRUPTED = 70
EXIT_LOCKED = 75
INTERNAL_ERROR = "internal_error"

Operation = Callable[[Job, Steps], dict[str, Any]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a worker needs: where requests are, how jobs are made, and what each operation does."""

    spool: Spool
    locks: Path
    work: Path
    operations: Mapping[str, Operation]
    make_job: Callable[[Record], Job]

    def run(self, op_id: str) -> int:
        """Runs the operation that lies in `running/` to its result. Returns the process's exit code."""
        lock = Lock(self.locks / op_id)
        if not lock.try_acquire(process.attempt_identity()):
            return EXIT_LOCKED
        try:
            record = self.spool.read("running", op_id)
        except FileNotFoundError:
            return EXIT_DONE
        signal.signal(signal.SIGTERM, _interrupt)
        request = record.request
        with (
            trace.bound(
                trace_id=request.trace_id,
                op_id=op_id,
                operation=request.operation,
                ssm_command_id=request.ssm_command_id,
                parent_span_id=request.span_id,
            ),
            trace.span(),
        ):
            try:
                return self._run_bound(record)
            except Interrupted:  # outside of the operation's own work
                return EXIT_INTERRUPTED
            except Exception:  # it could not write down what came of it; the daemon runs it again
                log.exception("the worker ends without a result", extra={"event": "worker.crashed"})
                return EXIT_CRASHED

    def _run_bound(self, record: Record) -> int:
        job = self.make_job(record)
        steps = Steps(lambda progress: self.spool.write_progress(record.request.op_id, dict(progress)))
        started_at = _now()
        emit(
            log, logging.INFO, "operation.started", f"{record.request.operation} started, attempt {record.attempt}",
            attempt=record.attempt, generation=record.generation,
        )  # fmt: skip
        output: dict[str, Any] = {}
        error: ErrorResult | None = None
        status: Status = "succeeded"
        try:
            job.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            output = self.operations[record.request.operation](job, steps)
        except Interrupted:
            emit(
                log, logging.WARNING, "operation.interrupted", "the service stops; this runs again after its next start"
            )
            leftovers.remove_attempt(job.folder)
            # Stopping the service is no fault of the operation, so it costs it none of its attempts.
            self.spool.update_running(msgspec.structs.replace(record, attempt=record.attempt - 1))
            return EXIT_INTERRUPTED
        except Exception as failure:
            error = _explained(failure)
            status = "refused" if isinstance(failure, Refused) else "failed"
            if error is None:  # a defect of ours must end as a result too, never as a lost request
                log.exception("the operation met an unexpected error", extra={"event": "operation.crashed"})
                text = f"{type(failure).__name__}: {failure}"
                error = ErrorResult(INTERNAL_ERROR, text, "report this with the log lines")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is decided is written down whole
        leftovers.remove_attempt(job.folder)
        self._finish(record, status, steps, started_at, output, error)
        return EXIT_DONE

    def _finish(
        self, record: Record, status: Status, steps: Steps, started_at: str, output: dict[str, Any],
        error: ErrorResult | None,
    ) -> None:  # fmt: skip
        result = Result(
            op_id=record.request.op_id, generation=record.generation, trace_id=record.request.trace_id,
            operation=record.request.operation, status=status, attempt=record.attempt, started_at=started_at,
            finished_at=_now(), steps=tuple(steps.results), output=output, error=error,
        )  # fmt: skip
        _log_result(result)
        self.spool.finish(with_result(record, result))


def _log_result(result: Result) -> None:
    duration_ms = sum(step.duration_ms for step in result.steps)
    fields: dict[str, object] = {"status": result.status, "duration_ms": duration_ms, "attempt": result.attempt}
    if result.error is None:
        emit(log, logging.INFO, "operation.finished", f"{result.operation} succeeded", **fields)
        return
    error = result.error
    fields |= {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}
    event, level = (
        ("guard.refused", logging.WARNING) if result.status == "refused" else ("operation.failed", logging.ERROR)
    )
    emit(log, level, event, f"{result.operation} {result.status}: {error.message}", **fields)


def _explained(failure: Exception) -> ErrorResult | None:
    known = of_the_node(failure) if isinstance(failure, OSError) else failure
    if not isinstance(known, AgentError):
        return None
    return ErrorResult(known.code, _told(known), known.hint, known.retryable)


def _told(failure: AgentError) -> str:
    return f"[{failure.rule}] {failure.message}" if isinstance(failure, Refused) else failure.message


def _interrupt(signal_number: int, frame: object) -> None:
    raise Interrupted("the service is stopping")


def _now() -> str:
    return format_moment(datetime.now(UTC))


def exit_process(code: int) -> None:
    """Ends without running finalizers of half-open connections; every line and file is out by now."""
    logging.shutdown()
    os._exit(code)
