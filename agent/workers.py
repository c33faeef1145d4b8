"""The worker processes of this daemon: started, ended in time, reaped; at most one attempt per slot."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agent import trace
from agent.adapters import process
from agent.adapters.spool import Spool
from agent.domain.request import OPERATIONS, Record
from agent.errors import AgentError
from agent.logs import emit

CLEAN_UP_S = 5.0
log = logging.getLogger(__name__)


@dataclass
class Running:
    """A worker of this daemon, and when it was told that its time is over."""

    process: process.Worker
    record: Record
    terminated_at: float | None = None


class Workers:
    """Starts them and looks after them; what becomes of their operations is decided elsewhere."""

    def __init__(
        self, *, spool: Spool, argv: Sequence[str], environment: dict[str, str], clean_up_s: float = CLEAN_UP_S
    ) -> None:
        self._spool = spool
        self._argv = tuple(argv)
        self._environment = environment
        self.clean_up_s = clean_up_s
        self.ended = 0
        self.attempts: dict[str, Running] = {}  # by slot

    def start(self, record: Record) -> None:
        """The next attempt at an operation in `running/`; its number is written down before."""
        op_id = record.request.op_id
        attempt = Record(record.request, record.generation, record.attempt + 1, record.acceptance, record.results)
        self._spool.update_running(attempt)
        worker = process.spawn_worker([*self._argv, op_id], op_id, self._environment)
        self.attempts[OPERATIONS[record.request.operation].slot] = Running(worker, attempt)

    def take_ended(self) -> Iterator[tuple[Running, int]]:
        """Those that ended, with their exit codes; those whose time is over are ended."""
        for slot, running in list(self.attempts.items()):
            exit_code = running.process.poll()
            if exit_code is None:
                self._bound(running)
                continue
            del self.attempts[slot]
            self.ended += 1
            yield running, exit_code

    def next_deadline_in_s(self) -> float | None:
        """Seconds until a worker's time is over, or None."""
        times = []
        for running in self.attempts.values():
            if running.terminated_at is not None:
                times.append(running.terminated_at + self.clean_up_s - time.monotonic())
            elif running.record.acceptance is not None:
                times.append(running.record.acceptance.deadline_boot_s - process.boot_clock_s())
        return max(0.01, min(times)) if times else None

    def _bound(self, running: Running) -> None:
        """At the deadline the worker is asked to clean up, a little later its whole group is killed."""
        acceptance = running.record.acceptance
        if acceptance is None or process.boot_clock_s() < acceptance.deadline_boot_s:
            return
        if running.terminated_at is None:
            running.terminated_at = time.monotonic()
            running.process.terminate()
        elif time.monotonic() >= running.terminated_at + self.clean_up_s:
            with bound_to(running.record), going_on(running.record.request.op_id):
                process.kill_group(running.process.pid, running.record.request.op_id)


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
