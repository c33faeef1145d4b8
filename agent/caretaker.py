"""A short worker for an operation at which no attempt works: it ends it, or asks a parked one again whether it may go.

It needs no slot. The daemon bounds its time, and starts another one later when it leaves nothing decided.
"""

import logging
from typing import TYPE_CHECKING

import msgspec

from agent import outcome
from agent.adapters import process
from agent.adapters.files import Lock
from agent.domain import attempts, cancellation
from agent.domain.request import ErrorResult, Record
from agent.errors import AgentError, Interrupted, Parked
from agent.logs import emit
from agent.operations import leftovers
from agent.operations.steps import Steps
from agent.outcome import EXIT_CRASHED, EXIT_DONE, EXIT_INTERRUPTED, EXIT_LOCKED

if TYPE_CHECKING:
    from agent.worker import Worker

log = logging.getLogger(__name__)


def run(worker: "Worker", op_id: str) -> int:
    """Looks after that operation once. Returns the process's exit code."""
    lock = Lock(worker.locks / op_id)
    if not lock.try_acquire(process.attempt_identity()):
        return EXIT_LOCKED
    try:
        record = _read(worker, op_id)
    except FileNotFoundError:
        return EXIT_DONE
    with outcome.bound(record):
        try:
            Care(worker, record).look()
        except Interrupted:
            return EXIT_INTERRUPTED
        except Exception:
            log.exception("the caretaker ends without a decision", extra={"event": "worker.crashed"})
            return EXIT_CRASHED
    return EXIT_DONE


def _read(worker: "Worker", op_id: str) -> Record:
    try:
        return worker.spool.read("waiting", op_id)
    except FileNotFoundError:
        return worker.spool.read("running", op_id)


class Care:
    """One look at one operation."""

    def __init__(self, worker: "Worker", record: Record) -> None:
        self._worker = worker
        self._record = record
        self._operation = worker.operations[record.request.operation]
        self._job = worker.make_job(record)
        self._steps = Steps(lambda progress: None)

    def look(self) -> None:
        """A cancellation comes first, then the deadline, then the question whether it may go."""
        record = self._record
        asked = None
        if not record.committed:
            asked = self._worker.spool.cancellations.find(record.request.op_id, record.generation)
        if asked is not None:
            self._end(cancellation.failure(record, asked), cancel_trace_id=asked.trace_id)
        elif not self._is_parked():
            return
        elif record.parking is not None and self._job.time_left_s() <= 0:
            self._end(attempts.overdue(record.parking))
        else:
            self._ask()

    def _is_parked(self) -> bool:
        return self._worker.spool.path("waiting", self._record.request.op_id).exists()

    def _ask(self) -> None:
        try:
            if self._operation.recheck is not None:
                self._operation.recheck(self._job, self._steps)
        except Parked as parked:
            outcome.decided()
            self._keep(parked)
        except Exception as failure:  # noqa: BLE001 - a defect would come again every time, and nobody would see it
            outcome.decided()
            error = outcome.explained(failure)
            if error.retryable:
                emit(log, logging.WARNING, "parked.not_asked", f"it waits on, it could not be asked: {error.message}")
            else:
                self._end(failure if isinstance(failure, AgentError) else error)
        else:
            outcome.decided()
            self._let_go()

    def _keep(self, parked: Parked) -> None:
        record = attempts.parked(
            self._record,
            parked,
            moment=outcome.now(),
            next_check_at=outcome.now(later_s=self._worker.parked_interval_s),
        )
        emit(
            log, logging.INFO, "parked.checked", f"it still waits: [{parked.rule}] {parked.message}",
            may_go=False, rule=parked.rule,
        )  # fmt: skip
        self._worker.spool.park(record)

    def _let_go(self) -> None:
        parking = self._record.parking
        emit(log, logging.INFO, "parked.checked", "it may go on as soon as its slot is free", may_go=True, rule="")
        if parking is not None:
            next_check_at = outcome.now(later_s=self._worker.parked_interval_s)
            changed = msgspec.structs.replace(
                parking, may_go=True, checked_at=outcome.now(), next_check_at=next_check_at
            )  # fmt: skip
            self._worker.spool.park(msgspec.structs.replace(self._record, parking=changed))

    def _end(self, failure: AgentError | ErrorResult, *, cancel_trace_id: str = "") -> None:
        outcome.say_farewell(self._operation, self._job, self._steps)
        outcome.decided()
        leftovers.remove_operation(self._worker.work, self._record.request.op_id)
        ended = attempts.ended(self._record, failure, outcome.now())
        if ended.result is not None:
            outcome.log_result(ended.result, cancel_trace_id=cancel_trace_id)
        self._worker.spool.finish(ended)
