"""What becomes of an operation in `running/` that no worker of this daemon runs: left to end, ended, or run again."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.adapters import process
from agent.adapters.spool import SUFFIX, Lock, Spool, lock_at
from agent.domain import attempts, cancellation
from agent.domain.cancellation import Cancellation
from agent.domain.request import OPERATIONS, Acceptance, Record, Slot, is_op_id, slot_is_free
from agent.errors import AgentError, BadInput, CommandTimeout
from agent.logs import emit
from agent.operations import leftovers
from agent.outcome import log_result, now
from agent.workers import Workers, bound_to, going_on

log = logging.getLogger(__name__)


class Recovery:
    """Settles what former workers left, each by the truth of its folder, record and lock."""

    def __init__(
        self, *, spool: Spool, locks: Path, work: Path, workers: Workers, timeout_s: Callable[[str], int]
    ) -> None:
        self._spool = spool
        self._locks = locks
        self._work = work
        self._workers = workers
        self._timeout_s = timeout_s
        self._cared_for: dict[str, Slot] = {}  # by op_id: cancelled ones whose caretaker was started
        self.orphans: dict[str, str] = {}  # slot -> op_id, of workers that a former daemon started

    def busy_slots(self) -> set[str]:
        """Slots in which something runs or is being ended, of this daemon or a former one."""
        ending = {slot for op_id, slot in self._cared_for.items() if op_id in self._workers.caretakers}
        return self._workers.attempts.keys() | self.orphans.keys() | ending

    def look(self) -> None:
        """Looks through `running/` for operations that no worker of this daemon runs."""
        self.orphans.clear()
        ours = {running.op_id for running in self._workers.all()}
        for name in self._spool.names("running"):
            op_id = name.removesuffix(SUFFIX)
            if op_id not in ours:
                with going_on(f"running/{name[:100]}"):
                    self.settle(op_id)

    def accept(self, record: Record) -> Record:
        """The record with its deadline, which runs from now on."""
        timeout_s = self._timeout_s(record.request.operation)
        acceptance = Acceptance(now(), process.boot_id(), process.boot_clock_s() + timeout_s, timeout_s)
        emit(
            log, logging.INFO, "request.accepted", f"accepted {record.request.operation} {record.request.op_id}",
            source=record.request.source, generation=record.generation, timeout_s=timeout_s,
        )  # fmt: skip
        return msgspec.structs.replace(record, acceptance=acceptance)

    def accepted_in_this_boot(self, record: Record) -> Record:
        """The same, or after a reboot, when the old clock is gone, with its time anew."""
        same_boot = record.acceptance is not None and record.acceptance.boot_id == process.boot_id()
        return record if same_boot else self.accept(record)

    def asked_to_cancel(self, record: Record) -> Cancellation | None:
        """The cancellation that counts for a record; none does any more beyond its point of no return."""
        if record.committed:
            return None
        return self._spool.cancellations.find(record.request.op_id, record.generation)

    def settle(self, op_id: str) -> None:
        """Decides what becomes of an operation in `running/` that has no worker of ours."""
        try:
            record = self._spool.read("running", op_id)
        except FileNotFoundError:
            self._cared_for.pop(op_id, None)
            return
        except BadInput as error:
            self.put_aside("running", op_id, error)
            return
        with bound_to(record), going_on(op_id), contextlib.closing(self.lock_of(op_id)) as lock:
            if not self._has_gone(record, lock):
                self.orphans[OPERATIONS[record.request.operation].slot] = op_id
            elif self._spool.path("running", op_id).exists():  # else the one that has gone ended it
                # As that one left it, and with its lock held: one that a former daemon started just before it died, and
                # that has no lock yet, finds what was decided here.
                self._decide(self._spool.read("running", op_id), lock)
            else:
                self._cared_for.pop(op_id, None)

    def lock_of(self, op_id: str) -> Lock:
        """An operation's lock, not taken yet."""
        return lock_at(self._locks / op_id)

    def _has_gone(self, record: Record, lock: Lock) -> bool:
        """Whether no worker is at it, so that the lock is ours.

        Ends what is left of one, but one that lives, has time left and is wanted is left to end by itself.
        """
        op_id = record.request.op_id
        try:
            is_ours = lock.try_acquire()
            left_s = time_left_s(record.acceptance)
            has_time = left_s is None or left_s > -self._workers.clean_up_s
            if not is_ours and has_time and self.asked_to_cancel(record) is None:
                return False
            process.end_attempt(lock.content(), op_id)
            return is_ours or lock.try_acquire()
        except CommandTimeout as error:
            emit(log, logging.ERROR, "spool.trouble", f"{op_id} has to wait: {error}")
            return False

    def end(self, record: Record, failure: AgentError, *, cancel_trace_id: str = "") -> None:
        """Gives it the result that no worker could give it."""
        leftovers.remove_operation(self._work, record.request.op_id)
        ended = attempts.ended(record, failure, now())
        if ended.result is not None:
            log_result(ended.result, cancel_trace_id=cancel_trace_id)
        self._spool.finish(ended)
        if cancel_trace_id:
            self._spool.cancellations.drop(record.request.op_id, record.generation)

    def put_aside(self, state: str, op_id: str, error: BadInput) -> None:
        """A record that can not be read ends in `rejected/`, and nothing of its attempt is left."""
        emit(
            log, logging.ERROR, "request.damaged", f"{state}/{op_id[:100]}{SUFFIX} can not be read: {error}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
        if not is_op_id(op_id):  # it is no name of ours, and must not become a part of a path
            self._spool.reject(f"{op_id}{SUFFIX}", error.message, now(), state=state)
            return
        with contextlib.closing(self.lock_of(op_id)) as lock:
            is_ours = lock.try_acquire()
            process.end_attempt(lock.content(), op_id)
            if is_ours or lock.try_acquire():  # else it was killed, but has not gone yet
                leftovers.remove_operation(self._work, op_id)
                self._spool.path("progress", op_id).unlink(missing_ok=True)
                self._spool.reject(f"{op_id}{SUFFIX}", error.message, now(), state=state)

    def _decide(self, record: Record, lock: Lock) -> None:
        op_id = record.request.op_id
        slot = OPERATIONS[record.request.operation].slot
        if self._spool.ended(op_id, record.generation) or self._spool.is_parked(op_id, record.generation):
            self._spool.drop_running(op_id)  # a crash cut its way out of here in half
        elif (asked := self.asked_to_cancel(record)) is not None:
            self._cancel(record, asked, lock)
        elif (failure := attempts.why_not_again(record, time_left_s(record.acceptance))) is not None:
            self.end(record, failure)
        elif slot_is_free(slot, self.busy_slots()):
            emit(log, logging.WARNING, "operation.rerun", "runs again from its start", attempt=record.attempt + 1)
            self._workers.start(self.accepted_in_this_boot(record), lock)

    def _cancel(self, record: Record, asked: Cancellation, lock: Lock) -> None:
        """A caretaker gives back first what its attempts held outside; when that one fails, it ends all the same."""
        op_id = record.request.op_id
        if record.attempt > 0 and op_id not in self._cared_for:
            self._cared_for[op_id] = OPERATIONS[record.request.operation].slot
            lock.release()
            self._workers.start_caretaker(record)
            return
        self._cared_for.pop(op_id, None)
        self.end(record, cancellation.failure(record, asked), cancel_trace_id=asked.trace_id)


def time_left_s(acceptance: Acceptance | None) -> float | None:
    """By the boot clock; None when it has no deadline."""
    if acceptance is None:
        return None
    return attempts.time_left_s(acceptance, boot_id=process.boot_id(), boot_clock_s=process.boot_clock_s())
