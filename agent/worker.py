"""Runs one request in a process of its own: lock, bind the trace, run the steps, leave a result.

The only place besides the command's edge, and the caretaker beside it, that catches every error: whatever happens ends
as a result.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from agent import outcome
from agent.adapters import process
from agent.adapters.files import Lock
from agent.adapters.spool import Spool
from agent.domain import attempts, cancellation
from agent.domain.attempts import with_result
from agent.domain.cancellation import Cancellation
from agent.domain.request import OPERATIONS, ErrorResult, Record, Result, Status, is_op_id
from agent.errors import Interrupted, Parked, Refused
from agent.logs import emit
from agent.operations import leftovers
from agent.operations.steps import Job, Operation, Steps
from agent.outcome import EXIT_CRASHED, EXIT_DONE, EXIT_INTERRUPTED, EXIT_LOCKED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a worker needs: where requests are, how jobs are made, and what each operation does.

    `step_back` lowers this process's priority. A backup can wait a little for etcd; who changes members or restores
    must not, since the cluster waits for it.
    """

    spool: Spool
    locks: Path
    work: Path
    operations: Mapping[str, Operation]
    make_job: Callable[[Record], Job]
    parked_interval_s: float = 30.0
    step_back: Callable[[], None] = lambda: None

    def run(self, op_id: str) -> int:
        """Runs the operation that lies in `running/` to its result. Returns the process's exit code."""
        lock = Lock(self.locks / op_id)
        if not lock.try_acquire(process.attempt_identity()):
            return EXIT_LOCKED
        try:
            record = self.spool.read("running", op_id)
        except FileNotFoundError:
            return EXIT_DONE
        with outcome.bound(record):
            try:
                if OPERATIONS[record.request.operation].slot == "backup":
                    self.step_back()  # first of all: threads and programs that are started later inherit it
                return Attempt(self, record).run()
            except Interrupted:  # outside of the operation's own work
                return EXIT_INTERRUPTED
            except Exception:  # it could not write down what came of it; the daemon runs it again
                log.exception("the worker ends without a result", extra={"event": "worker.crashed"})
                return EXIT_CRASHED


class Attempt:
    """One run of an operation, to the one of its ends that comes."""

    def __init__(self, worker: Worker, record: Record) -> None:
        self._worker = worker
        self._spool = worker.spool
        self._record = record
        self._operation = worker.operations[record.request.operation]
        self._job = replace(worker.make_job(record), hold=self._hold)
        op_id = record.request.op_id
        self._steps = Steps(lambda progress: self._spool.write_progress(op_id, dict(progress)), self._commit)
        self._steps.committed = record.committed
        self._started_at = outcome.now()

    def run(self) -> int:
        """Works until there is a result, a reason to wait, or an interruption. Returns the exit code."""
        record = self._record
        emit(
            log, logging.INFO, "operation.started", f"{record.request.operation} started, attempt {record.attempt}",
            attempt=record.attempt, generation=record.generation,
        )  # fmt: skip
        output: dict[str, Any] = {}
        error: ErrorResult | None = None
        status: Status = "succeeded"
        try:
            if self._asked_to_cancel() is not None:
                raise Interrupted("cancelled before it began")
            leftovers.remove_operation(self._worker.work, record.request.op_id)
            self._job.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            output = self._operation.run(self._job, self._steps)
        except Interrupted:
            outcome.decided()
            return self._interrupted()
        except Exception as failure:  # noqa: BLE001 - `explained` logs what is no error of ours
            if isinstance(failure, Parked) and self._operation.recheck is not None:
                outcome.decided()
                return self._park(failure)
            error = outcome.explained(failure)
            status = "refused" if isinstance(failure, Refused) else "failed"
        outcome.decided()
        self._finish(status, output, error)
        return EXIT_DONE

    def _interrupted(self) -> int:
        asked = self._asked_to_cancel()
        if asked is not None:
            outcome.say_farewell(self._operation, self._job, self._steps)
            error = attempts.error_result(cancellation.failure(self._record, asked))
            self._finish("failed", {}, error, cancel_trace_id=asked.trace_id)
            return EXIT_DONE
        leftovers.remove_attempt(self._job.folder)
        if self._job.time_left_s() <= 0:
            emit(log, logging.WARNING, "operation.interrupted", "its time is over; it is ended")
            return EXIT_INTERRUPTED
        emit(log, logging.WARNING, "operation.interrupted", "the service stops; this runs again after its next start")
        # Stopping the service is no fault of the operation, so it costs it none of its attempts.
        self._spool.update_running(
            msgspec.structs.replace(self._record, attempt=self._record.attempt - 1, committed=self._steps.committed)
        )
        return EXIT_INTERRUPTED

    def _park(self, parked: Parked) -> int:
        """Waiting is no attempt: what was counted for this one is given back."""
        interval_s = self._worker.parked_interval_s
        record = attempts.parked(
            msgspec.structs.replace(self._record, attempt=self._record.attempt - 1), parked,
            moment=outcome.now(), next_check_at=outcome.now(later_s=interval_s),
        )  # fmt: skip
        leftovers.remove_attempt(self._job.folder)
        emit(
            log, logging.WARNING, "operation.parked", f"it waits: [{parked.rule}] {parked.message}",
            rule=parked.rule, error_hint=parked.hint,
        )  # fmt: skip
        self._spool.park(record)
        return EXIT_DONE

    def _commit(self) -> None:
        """The point of no return: on disk first, then a cancellation that came before is looked for once more.

        So the daemon, which looks for the mark after it saw a cancellation, and this worker can not both go ahead.
        """
        if self._asked_to_cancel() is None:
            self._spool.update_running(msgspec.structs.replace(self._record, committed=True))
            if self._asked_to_cancel() is None:
                return
            self._spool.update_running(self._record)
        raise Interrupted("cancelled before the point of no return")

    @contextlib.contextmanager
    def _hold(self, op_id: str) -> Iterator[bool]:
        path = self._worker.locks / op_id
        if not is_op_id(op_id):
            yield False
            return
        was_there, lock = path.exists(), Lock(path)
        try:
            is_abandoned = lock.try_acquire() and not self._spool.is_live(op_id)
            yield is_abandoned
            if is_abandoned and not was_there:
                path.unlink()
        finally:
            lock.release()

    def _asked_to_cancel(self) -> Cancellation | None:
        if self._steps.committed:
            return None
        return self._spool.cancellations.find(self._record.request.op_id, self._record.generation)

    def _finish(
        self, status: Status, output: dict[str, Any], error: ErrorResult | None, *, cancel_trace_id: str = ""
    ) -> None:
        record, request = self._record, self._record.request
        with leftovers.held_open(self._job.folder):
            leftovers.remove_attempt(self._job.folder)
            result = Result(
                op_id=request.op_id, generation=record.generation, trace_id=request.trace_id,
                operation=request.operation, status=status, attempt=record.attempt, started_at=self._started_at,
                finished_at=outcome.now(), steps=tuple(self._steps.results), output=output, error=error,
            )  # fmt: skip
            outcome.log_result(result, cancel_trace_id=cancel_trace_id)
            self._spool.finish(with_result(record, result))


def exit_process(code: int) -> None:
    """Ends without running finalizers of half-open connections; every line and file is out by now."""
    logging.shutdown()
    os._exit(code)
