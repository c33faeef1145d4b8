"""What becomes of an operation in `running/` that no worker of this daemon runs: left to end, ended, or run again."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters import process
from agent.adapters.spool import SUFFIX, Spool, lock_at
from agent.domain import attempts
from agent.domain.request import OPERATIONS, Acceptance, Record, format_moment, slot_is_free
from agent.errors import AgentError, BadInput, CommandTimeout
from agent.logs import emit
from agent.operations import leftovers
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
        self.orphans: dict[str, str] = {}  # slot -> op_id, of workers that a former daemon started

    def busy_slots(self) -> set[str]:
        """Slots in which something runs, of this daemon or a former one."""
        return self._workers.attempts.keys() | self.orphans.keys()

    def look(self) -> None:
        """Looks through `running/` for operations that no worker of this daemon runs."""
        self.orphans.clear()
        ours = {running.record.request.op_id for running in self._workers.attempts.values()}
        for name in self._spool.names("running"):
            op_id = name.removesuffix(SUFFIX)
            if op_id not in ours:
                with going_on(op_id):
                    self.settle(op_id)

    def accept(self, record: Record) -> Record:
        """The record with its deadline, which runs from now on."""
        timeout_s = self._timeout_s(record.request.operation)
        acceptance = Acceptance(now(), process.boot_id(), process.boot_clock_s() + timeout_s, timeout_s)
        emit(
            log, logging.INFO, "request.accepted", f"accepted {record.request.operation} {record.request.op_id}",
            source=record.request.source, generation=record.generation, timeout_s=timeout_s,
        )  # fmt: skip
        return Record(record.request, record.generation, record.attempt, acceptance, record.results)

    def settle(self, op_id: str) -> None:
        """Decides what becomes of an operation in `running/` that has no worker of ours."""
        try:
            record = self._spool.read("running", op_id)
        except FileNotFoundError:
            return
        except BadInput as error:
            emit(log, logging.ERROR, "request.damaged", f"running/{op_id}{SUFFIX} can not be read: {error}")
            return
        with bound_to(record), going_on(op_id):
            slot = OPERATIONS[record.request.operation].slot
            if not self._former_attempt_is_gone(record):
                self.orphans[slot] = op_id
            elif self._spool.ended(op_id, record.generation):
                self._spool.drop_running(op_id)
            elif (failure := attempts.why_not_again(record, _time_left_s(record.acceptance))) is not None:
                self._fail(record, failure)
            elif slot_is_free(slot, self.busy_slots()):
                emit(log, logging.WARNING, "operation.rerun", "runs again from its start", attempt=record.attempt + 1)
                same_boot = record.acceptance is not None and record.acceptance.boot_id == process.boot_id()
                self._workers.start(record if same_boot else self.accept(record))

    def _former_attempt_is_gone(self, record: Record) -> bool:
        """Ends what is left of it, but a worker that lives and has time left is left to end by itself."""
        op_id = record.request.op_id
        lock = lock_at(self._locks / op_id)
        try:
            is_ours = lock.try_acquire()
            left_s = _time_left_s(record.acceptance)
            if not is_ours and (left_s is None or left_s > -self._workers.clean_up_s):
                return False
            process.end_attempt(lock.content(), op_id)
            return is_ours or lock.try_acquire()
        except CommandTimeout as error:
            emit(log, logging.ERROR, "spool.trouble", f"{op_id} has to wait: {error}")
            return False
        finally:
            lock.release()

    def _fail(self, record: Record, failure: AgentError) -> None:
        request = record.request
        emit(
            log, logging.ERROR, "operation.failed", f"{request.operation} failed: {failure.message}",
            error_code=failure.code, error_message=failure.message, error_hint=failure.hint, status="failed",
        )  # fmt: skip
        leftovers.remove_operation(self._work, request.op_id)
        self._spool.finish(attempts.failed(record, failure, now()))


def _time_left_s(acceptance: Acceptance | None) -> float | None:
    if acceptance is None:
        return None
    return attempts.time_left_s(acceptance, boot_id=process.boot_id(), boot_clock_s=process.boot_clock_s())


def now() -> str:
    """The time by the wall clock, as results have it."""
    return format_moment(datetime.now(UTC))
