"""The worker processes of this daemon: started, asked to end, ended in time, reaped.

At most one attempt per slot; beside them caretakers, which look after what is parked or to be ended and need no slot.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import msgspec

from agent import trace
from agent.adapters import process
from agent.adapters.spool import Lock, Spool
from agent.domain.request import OPERATIONS, Record
from agent.errors import AgentError
from agent.logs import emit

CLEAN_UP_S = 5.0
CARETAKER_S = 20.0
CARETAKER_FLAG = "--caretaker"
log = logging.getLogger(__name__)


@dataclass
class Running:
    """A worker of this daemon: until when it may work, and when it was asked to end, both by the boot clock."""

    process: process.Worker
    record: Record
    ends_at_s: float | None
    asked_at_s: float | None = None

    @property
    def op_id(self) -> str:
        return self.record.request.op_id

    def ask_to_end(self) -> None:
        """Asks it once; from then on it has the clean-up time."""
        if self.asked_at_s is None:
            self.asked_at_s = process.boot_clock_s()
            self.process.terminate()


class Workers:
    """Starts them and looks after them; what becomes of their operations is decided elsewhere."""

    def __init__(
        self, *, spool: Spool, argv: Sequence[str], environment: dict[str, str], clean_up_s: float = CLEAN_UP_S,
        caretaker_s: float = CARETAKER_S,
    ) -> None:  # fmt: skip
        self._spool = spool
        self._argv = tuple(argv)
        self._environment = environment
        self.clean_up_s = clean_up_s
        self.caretaker_s = caretaker_s
        self.ended = 0
        self.attempts: dict[str, Running] = {}  # by slot
        self.caretakers: dict[str, Running] = {}  # by op_id

    def all(self) -> list[Running]:
        """Every worker of this daemon."""
        return [*self.attempts.values(), *self.caretakers.values()]

    def start(self, record: Record, lock: Lock) -> None:
        """The next attempt at an operation in `running/`; its number is written down before.

        The operation's lock is held until that is on disk, and given back for the worker. So one that a former daemon
        started, and that took its time, can not read the record of before: it does this attempt, or none.
        """
        attempt = msgspec.structs.replace(record, attempt=record.attempt + 1)
        self._spool.update_running(attempt)
        lock.release()
        deadline_s = record.acceptance.deadline_boot_s if record.acceptance else None
        worker = self._spawn(record.request.op_id)
        self.attempts[OPERATIONS[record.request.operation].slot] = Running(worker, attempt, deadline_s)

    def start_caretaker(self, record: Record) -> None:
        """A short look at an operation at which no attempt works."""
        worker = self._spawn(CARETAKER_FLAG, record.request.op_id)
        self.caretakers[record.request.op_id] = Running(worker, record, process.boot_clock_s() + self.caretaker_s)

    def take_ended(self) -> Iterator[tuple[Running, int]]:
        """Those that ended, with their exit codes; those whose time is over are ended."""
        for place in (self.attempts, self.caretakers):
            for key, running in list(place.items()):
                exit_code = running.process.poll()
                if exit_code is None:
                    self._bound(running)
                    continue
                del place[key]
                self.ended += place is self.attempts
                yield running, exit_code

    def next_deadline_in_s(self) -> float | None:
        """Seconds until a worker's time is over, or None."""
        times = []
        for running in self.all():
            if running.asked_at_s is not None:
                times.append(running.asked_at_s + self.clean_up_s)
            elif running.ends_at_s is not None:
                times.append(running.ends_at_s)
        return max(0.01, min(times) - process.boot_clock_s()) if times else None

    def _spawn(self, *arguments: str) -> process.Worker:
        *flags, op_id = arguments
        # An op id may begin with a dash, and is no option then.
        return process.spawn_worker([*self._argv, *flags, "--", op_id], op_id, self._environment)

    def _bound(self, running: Running) -> None:
        """When its time is over it is asked to clean up, a little later its whole group is killed."""
        now_s = process.boot_clock_s()
        if running.asked_at_s is not None:
            if now_s >= running.asked_at_s + self.clean_up_s:
                with bound_to(running.record), going_on(running.op_id):
                    process.kill_group(running.process.pid, running.op_id)
        elif running.ends_at_s is not None and now_s >= running.ends_at_s:
            running.ask_to_end()


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """What can not be done for one operation now must not end the service for all: it is tried again."""
    try:
        yield
    except (OSError, AgentError) as error:
        emit(log, logging.ERROR, "spool.trouble", f"{what} has to wait: {error}")


def bound_to(record: Record) -> AbstractContextManager[None]:
    """Binds the trace of an operation."""
    request = record.request
    return trace.bound(
        trace_id=request.trace_id, op_id=request.op_id, operation=request.operation,
        ssm_command_id=request.ssm_command_id, parent_span_id=request.span_id,
    )  # fmt: skip
