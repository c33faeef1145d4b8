"""What the daemon does with requests: claims them, starts workers, reaps, re-runs, ends those out of time.

Part of the daemon's layer, without its signals and sleeping, so that tests drive it step by step.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent import trace
from agent.adapters import process
from agent.adapters.spool import SUFFIX, Spool, lock_at
from agent.domain import attempts
from agent.domain.request import OPERATIONS, Acceptance, Record, format_moment, slot_is_free
from agent.errors import AgentError, BadInput, CommandTimeout
from agent.logs import emit
from agent.operations import leftovers

EXIT_LOCKED = 75
CLEAN_UP_S = 5.0
log = logging.getLogger(__name__)


@dataclass
class Running:
    """A worker of this daemon, and when it was told that its time is over."""

    process: process.Worker
    record: Record
    terminated_at: float | None = None


class Intake:
    """The requests of one node: at most one running per slot."""

    def __init__(
        self, *, spool: Spool, locks: Path, work: Path, worker_argv: Sequence[str], environment: dict[str, str],
        timeout_s: Callable[[str], int], clean_up_s: float = CLEAN_UP_S,
    ) -> None:  # fmt: skip
        self._spool = spool
        self._locks = locks
        self._work = work
        self._worker_argv = tuple(worker_argv)
        self._environment = environment
        self._timeout_s = timeout_s
        self._clean_up_s = clean_up_s
        self._queued = 0
        self._ended = 0
        self._orphans: dict[str, str] = {}  # slot -> op_id, of workers that a former daemon started
        self.running: dict[str, Running] = {}  # by slot

    @property
    def has_orphans(self) -> bool:
        """Whether a former daemon's worker is still at work."""
        return bool(self._orphans)

    def describe(self) -> str:
        """One line: what runs, what waits, what ended."""
        doing = [
            f"{running.record.request.operation} {running.record.request.op_id}" for running in self.running.values()
        ]
        doing += [f"{op_id} (started before a restart)" for op_id in self._orphans.values()]
        return f"{', '.join(doing) or 'idle'}; {self._queued} queued; {self._ended} ended since start"

    def start_new(self) -> None:
        """Looks through `incoming/`: rejects what is no request, starts what has a free slot, oldest first."""
        self._queued = 0
        for name in self._spool.names("incoming"):
            with _going_on(f"incoming/{name[:100]}"), contextlib.suppress(FileNotFoundError):  # it went on meanwhile
                self._take(name)

    def reap(self, *, rerun: bool = True) -> None:
        """Looks after the workers: ended ones, and ones whose time is over."""
        for slot, running in list(self.running.items()):
            exit_code = running.process.poll()
            if exit_code is None:
                self._bound(running)
                continue
            del self.running[slot]
            self._ended += 1
            op_id = running.record.request.op_id
            with _bound_to(running.record), _going_on(op_id):
                if exit_code not in (0, EXIT_LOCKED):
                    emit(
                        log, logging.WARNING, "worker.ended", f"the worker ended with {exit_code}", exit_code=exit_code
                    )
                process.kill_group(running.process.pid, op_id)
                if rerun and exit_code != EXIT_LOCKED:
                    self._settle(op_id)

    def recover(self) -> None:
        """Looks through `running/` for operations that no worker of this daemon runs."""
        self._orphans.clear()
        ours = {running.record.request.op_id for running in self.running.values()}
        for name in self._spool.names("running"):
            op_id = name.removesuffix(SUFFIX)
            if op_id not in ours:
                with _going_on(op_id):
                    self._settle(op_id)

    def next_deadline_in_s(self) -> float | None:
        """Seconds until a worker's time is over, or None."""
        times = []
        for running in self.running.values():
            if running.terminated_at is not None:
                times.append(running.terminated_at + self._clean_up_s - time.monotonic())
            elif running.record.acceptance is not None:
                times.append(running.record.acceptance.deadline_boot_s - process.boot_clock_s())
        return max(0.01, min(times)) if times else None

    def _take(self, name: str) -> None:
        op_id = name.removesuffix(SUFFIX)
        try:
            if not name.endswith(SUFFIX):
                raise BadInput(f"{name[:100]!r} is not named OP_ID.json")
            record = self._spool.read("incoming", op_id)
        except BadInput as error:
            self._reject(name, error)
            return
        with _bound_to(record), _going_on(f"incoming/{name}"):
            try:
                self._consider(record)
            except BadInput as error:
                self._reject(name, error)

    def _reject(self, name: str, error: BadInput) -> None:
        emit(
            log, logging.ERROR, "request.rejected", f"rejected {name[:100]!r}: {error}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
        self._spool.reject(name, error.message, _now())

    def _consider(self, record: Record) -> None:
        op_id = record.request.op_id
        if self._spool.ended(op_id, record.generation):
            self._drop_ended(record)
            return
        slot = OPERATIONS[record.request.operation].slot
        if self._is_running(op_id):
            self._drop_duplicate(record)
        elif not slot_is_free(slot, self.running.keys() | self._orphans.keys()):
            self._queued += 1
        elif self._spool.claim(op_id):
            self._start(self._accept(Record(record.request, record.generation, results=record.results)))

    def _drop_ended(self, record: Record) -> None:
        op_id = record.request.op_id
        found = self._spool.end_of(op_id)
        if found is not None and not found.record.request.same_work_as(record.request):
            raise BadInput(f"{op_id} is known for other work", hint="an op id names one piece of work")
        self._spool.drop_incoming(op_id)

    def _is_running(self, op_id: str) -> bool:
        return self._spool.path("running", op_id).exists()

    def _drop_duplicate(self, record: Record) -> None:
        op_id = record.request.op_id
        first = self._spool.read("running", op_id).request
        if not first.same_work_as(record.request):
            raise BadInput(f"{op_id} runs already with other content", hint="an op id names one piece of work")
        if first.trace_id != record.request.trace_id:
            emit(
                log, logging.INFO, "trace.adopted", f"{op_id} goes on under the trace that came first",
                first_trace_id=first.trace_id,
            )  # fmt: skip
        self._spool.drop_incoming(op_id)

    def _accept(self, record: Record) -> Record:
        timeout_s = self._timeout_s(record.request.operation)
        acceptance = Acceptance(_now(), process.boot_id(), process.boot_clock_s() + timeout_s, timeout_s)
        emit(
            log, logging.INFO, "request.accepted", f"accepted {record.request.operation} {record.request.op_id}",
            source=record.request.source, generation=record.generation, timeout_s=timeout_s,
        )  # fmt: skip
        return Record(record.request, record.generation, record.attempt, acceptance, record.results)

    def _start(self, record: Record) -> None:
        op_id = record.request.op_id
        attempt = Record(record.request, record.generation, record.attempt + 1, record.acceptance, record.results)
        self._spool.update_running(attempt)
        worker = process.spawn_worker([*self._worker_argv, op_id], op_id, self._environment)
        self.running[OPERATIONS[record.request.operation].slot] = Running(worker, attempt)

    def _bound(self, running: Running) -> None:
        """At the deadline the worker is asked to clean up, a little later its whole group is killed."""
        acceptance = running.record.acceptance
        if acceptance is None or process.boot_clock_s() < acceptance.deadline_boot_s:
            return
        if running.terminated_at is None:
            running.terminated_at = time.monotonic()
            running.process.terminate()
        elif time.monotonic() >= running.terminated_at + self._clean_up_s:
            with _bound_to(running.record), _going_on(running.record.request.op_id):
                process.kill_group(running.process.pid, running.record.request.op_id)

    def _settle(self, op_id: str) -> None:
        """Decides what becomes of an operation in `running/` that has no worker of ours."""
        try:
            record = self._spool.read("running", op_id)
        except FileNotFoundError:
            return
        except BadInput as error:
            emit(log, logging.ERROR, "request.damaged", f"running/{op_id}{SUFFIX} can not be read: {error}")
            return
        with _bound_to(record), _going_on(op_id):
            slot = OPERATIONS[record.request.operation].slot
            if not self._former_attempt_is_gone(record):
                self._orphans[slot] = op_id
            elif self._spool.ended(op_id, record.generation):
                self._spool.drop_running(op_id)
            elif (failure := attempts.why_not_again(record, _time_left_s(record.acceptance))) is not None:
                self._fail(record, failure)
            elif slot_is_free(slot, self.running.keys() | self._orphans.keys()):
                emit(log, logging.WARNING, "operation.rerun", "runs again from its start", attempt=record.attempt + 1)
                same_boot = record.acceptance is not None and record.acceptance.boot_id == process.boot_id()
                self._start(record if same_boot else self._accept(record))

    def _former_attempt_is_gone(self, record: Record) -> bool:
        """Ends what is left of it, but a worker that lives and has time left is left to end by itself."""
        op_id = record.request.op_id
        lock = lock_at(self._locks / op_id)
        try:
            is_ours = lock.try_acquire()
            left_s = _time_left_s(record.acceptance)
            if not is_ours and (left_s is None or left_s > -self._clean_up_s):
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
        self._spool.finish(attempts.failed(record, failure, _now()))


@contextlib.contextmanager
def _going_on(what: str) -> Iterator[None]:
    """What can not be done for one operation now must not end the service for all: it is tried again."""
    try:
        yield
    except (OSError, AgentError) as error:
        emit(log, logging.ERROR, "spool.trouble", f"{what} has to wait: {error}")


def _time_left_s(acceptance: Acceptance | None) -> float | None:
    if acceptance is None:
        return None
    return attempts.time_left_s(acceptance, boot_id=process.boot_id(), boot_clock_s=process.boot_clock_s())


def _bound_to(record: Record) -> AbstractContextManager[None]:
    request = record.request
    return trace.bound(
        trace_id=request.trace_id, op_id=request.op_id, operation=request.operation,
        ssm_command_id=request.ssm_command_id, parent_span_id=request.span_id,
    )  # fmt: skip


def _now() -> str:
    return format_moment(datetime.now(UTC))
