"""What the daemon does with requests: rejects what is none, claims them, starts workers, reaps and re-runs them.

Part of the daemon's layer, without its signals and sleeping, so that tests drive it step by step.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.adapters import process
from agent.adapters.spool import SUFFIX, Spool
from agent.domain.request import OPERATIONS, Record, slot_is_free
from agent.errors import BadInput
from agent.logs import emit
from agent.recovery import Recovery, now
from agent.workers import CLEAN_UP_S, Running, Workers, bound_to, going_on

EXIT_LOCKED = 75
log = logging.getLogger(__name__)


class Intake:
    """The requests of one node: at most one running per slot."""

    def __init__(
        self, *, spool: Spool, locks: Path, work: Path, worker_argv: Sequence[str], environment: dict[str, str],
        timeout_s: Callable[[str], int], clean_up_s: float = CLEAN_UP_S,
    ) -> None:  # fmt: skip
        self._spool = spool
        self._workers = Workers(spool=spool, argv=worker_argv, environment=environment, clean_up_s=clean_up_s)
        self._recovery = Recovery(spool=spool, locks=locks, work=work, workers=self._workers, timeout_s=timeout_s)
        self._queued = 0

    @property
    def running(self) -> dict[str, Running]:
        """The workers of this daemon, by slot."""
        return self._workers.attempts

    @property
    def has_orphans(self) -> bool:
        """Whether a former daemon's worker is still at work."""
        return bool(self._recovery.orphans)

    def describe(self) -> str:
        """One line: what runs, what waits, what ended."""
        doing = [
            f"{running.record.request.operation} {running.record.request.op_id}" for running in self.running.values()
        ]
        doing += [f"{op_id} (started before a restart)" for op_id in self._recovery.orphans.values()]
        return f"{', '.join(doing) or 'idle'}; {self._queued} queued; {self._workers.ended} ended since start"

    def start_new(self) -> None:
        """Looks through `incoming/`: rejects what is no request, starts what has a free slot, oldest first."""
        self._queued = 0
        for name in self._spool.names("incoming"):
            with going_on(f"incoming/{name[:100]}"), contextlib.suppress(FileNotFoundError):  # it went on meanwhile
                self._take(name)

    def reap(self, *, rerun: bool = True) -> None:
        """Looks after the workers: ended ones, and ones whose time is over."""
        for running, exit_code in self._workers.take_ended():
            op_id = running.record.request.op_id
            with bound_to(running.record), going_on(op_id):
                if exit_code not in (0, EXIT_LOCKED):
                    emit(
                        log, logging.WARNING, "worker.ended", f"the worker ended with {exit_code}", exit_code=exit_code
                    )
                process.kill_group(running.process.pid, op_id)
                if rerun and exit_code != EXIT_LOCKED:
                    self._recovery.settle(op_id)

    def recover(self) -> None:
        """Looks through `running/` for operations that no worker of this daemon runs."""
        self._recovery.look()

    def next_deadline_in_s(self) -> float | None:
        """Seconds until a worker's time is over, or None."""
        return self._workers.next_deadline_in_s()

    def _take(self, name: str) -> None:
        op_id = name.removesuffix(SUFFIX)
        try:
            if not name.endswith(SUFFIX):
                raise BadInput(f"{name[:100]!r} is not named OP_ID.json")
            record = self._spool.read("incoming", op_id)
        except BadInput as error:
            self._reject(name, error)
            return
        with bound_to(record), going_on(f"incoming/{name}"):
            try:
                self._consider(record)
            except BadInput as error:
                self._reject(name, error)

    def _reject(self, name: str, error: BadInput) -> None:
        emit(
            log, logging.ERROR, "request.rejected", f"rejected {name[:100]!r}: {error}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
        self._spool.reject(name, error.message, now())

    def _consider(self, record: Record) -> None:
        op_id = record.request.op_id
        if self._spool.ended(op_id, record.generation):
            self._drop_ended(record)
            return
        slot = OPERATIONS[record.request.operation].slot
        if self._is_running(op_id):
            self._drop_duplicate(record)
        elif not slot_is_free(slot, self._recovery.busy_slots()):
            self._queued += 1
        elif self._spool.claim(op_id):
            fresh = Record(record.request, record.generation, results=record.results)
            self._workers.start(self._recovery.accept(fresh))

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
