"""What the daemon does with requests: rejects what is none, claims them, starts workers, reaps and re-runs them.

Part of the daemon's layer, without its signals and sleeping, so that tests drive it step by step.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters import process
from agent.adapters.spool import SUFFIX, Entry, Spool
from agent.cancelling import Cancelling
from agent.domain.request import OPERATIONS, Record, Slot, slot_is_free
from agent.errors import BadInput
from agent.logs import emit
from agent.outcome import EXIT_DONE, EXIT_LOCKED, now
from agent.parking import Parking
from agent.recovery import Recovery
from agent.workers import CARETAKER_S, CLEAN_UP_S, Running, Workers, bound_to, going_on

MOST_REJECTED = 1000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A request in `incoming/` that was read and waits for its slot."""

    version: tuple[int, int, int]
    slot: Slot


class Intake:
    """The requests of one node: at most one running per slot."""

    def __init__(
        self, *, spool: Spool, locks: Path, work: Path, worker_argv: Sequence[str], environment: dict[str, str],
        timeout_s: Callable[[str], int], parked_interval_s: float = 30.0, clean_up_s: float = CLEAN_UP_S,
        caretaker_s: float = CARETAKER_S,
    ) -> None:  # fmt: skip
        self._spool = spool
        workers = Workers(
            spool=spool, argv=worker_argv, environment=environment, clean_up_s=clean_up_s, caretaker_s=caretaker_s
        )
        recovery = Recovery(spool=spool, locks=locks, work=work, workers=workers, timeout_s=timeout_s)
        self.workers, self._recovery = workers, recovery
        self._cancelling = Cancelling(spool=spool, workers=workers, recovery=recovery)
        self._parking = Parking(
            spool=spool, locks=locks, workers=workers, recovery=recovery, interval_s=parked_interval_s
        )  # fmt: skip
        self._waiting: dict[str, Waiting] = {}  # by name in `incoming/`, in the order in which they came
        self._rejected = 0

    @property
    def running(self) -> dict[str, Running]:
        """The attempts of this daemon, by slot."""
        return self.workers.attempts

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
        parked = f"; {len(self._parking)} parked" if len(self._parking) else ""
        return (
            f"{', '.join(doing) or 'idle'}; {len(self._waiting)} queued{parked}; {self.workers.ended} ended since start"
        )

    def cycle(self) -> None:
        """One turn: what ended, what was left, what is to be cancelled, what is parked, and last what is new."""
        self.reap()
        self._recovery.look()
        self._cancelling.look()
        self._parking.look()
        self._start_new()

    def _start_new(self) -> None:
        """Looks through `incoming/`: rejects what is no request, starts what has a free slot, oldest first.

        Who waits keeps the slot from those who came later, so that nobody waits for ever. A request that was read and
        has to wait is not read again, so that a thousand of them cost no more than a look at the folder.
        """
        taken = set(self._recovery.busy_slots())
        self._parking.start_ready(taken)
        entries = {entry.name: entry for entry in self._spool.entries("incoming")}
        self._waiting = {
            name: one for name, one in self._waiting.items() if name in entries and one.version == entries[name].version
        }
        rejected = self._rejected
        for name in [*self._waiting, *(name for name in entries if name not in self._waiting)]:
            with going_on(f"incoming/{name[:100]}"), contextlib.suppress(FileNotFoundError):  # it went on meanwhile
                self._take(entries[name], taken)
        if self._rejected > rejected:
            self._spool.rejections.trim(MOST_REJECTED)

    def reap(self, *, rerun: bool = True) -> None:
        """Looks after the workers: ended ones, and ones whose time is over."""
        for running, exit_code in self.workers.take_ended():
            op_id = running.op_id
            with bound_to(running.record), going_on(op_id):
                if exit_code not in (EXIT_DONE, EXIT_LOCKED):
                    emit(
                        log, logging.WARNING, "worker.ended", f"the worker ended with {exit_code}", exit_code=exit_code
                    )
                process.kill_group(running.process.pid, op_id)
                self._parking.caretaker_ended(op_id)
                if rerun and exit_code != EXIT_LOCKED:
                    self._recovery.settle(op_id)

    def next_deadline_in_s(self) -> float | None:
        """Seconds until a worker's time is over or a parked operation is due, or None."""
        times = (self.workers.next_deadline_in_s(), self._parking.next_in_s())
        return min((time_s for time_s in times if time_s is not None), default=None)

    def _take(self, entry: Entry, taken: set[str]) -> None:
        known = self._waiting.get(entry.name)
        if known is not None and not slot_is_free(known.slot, taken):
            taken.add(known.slot)
            return
        name = entry.name
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
                if not self._consider(record, taken):
                    self._waiting[name] = Waiting(entry.version, OPERATIONS[record.request.operation].slot)
            except BadInput as error:
                self._reject(name, error)

    def _reject(self, name: str, error: BadInput) -> None:
        emit(
            log, logging.ERROR, "request.rejected", f"rejected {name[:100]!r}: {error}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
        self._spool.reject(name, error.message, now())
        self._rejected += 1

    def _consider(self, record: Record, taken: set[str]) -> bool:
        """Whether it is dealt with; False when it has to wait for its slot."""
        op_id = record.request.op_id
        slot = OPERATIONS[record.request.operation].slot
        if self._spool.ended(op_id, record.generation):
            self._drop_ended(record)
        elif state := self._known_as(op_id):
            self._drop_duplicate(record, state)
        elif not slot_is_free(slot, taken):
            taken.add(slot)
            return False
        else:
            return self._claim(record, slot, taken)
        return True

    def _claim(self, record: Record, slot: Slot, taken: set[str]) -> bool:
        op_id = record.request.op_id
        with contextlib.closing(self._recovery.lock_of(op_id)) as lock:
            if not lock.try_acquire():
                return False  # a worker of an earlier generation is about to see that there is nothing to do
            if self._spool.claim(op_id):
                taken.add(slot)
                fresh = Record(record.request, record.generation, results=record.results)
                self.workers.start(self._recovery.accept(fresh), lock)
        return True

    def _drop_ended(self, record: Record) -> None:
        op_id = record.request.op_id
        found = self._spool.end_of(op_id)
        if found is not None and not found.record.request.same_work_as(record.request):
            raise BadInput(f"{op_id} is known for other work", hint="an op id names one piece of work")
        self._spool.drop_incoming(op_id)

    def _known_as(self, op_id: str) -> str:
        """The folder beyond `incoming/` in which that id lives, in the order in which a worker parks it; else ""."""
        return next((state for state in ("running", "waiting") if self._spool.path(state, op_id).exists()), "")

    def _drop_duplicate(self, record: Record, state: str) -> None:
        op_id = record.request.op_id
        first = self._spool.read(state, op_id).request
        if not first.same_work_as(record.request):
            raise BadInput(f"{op_id} is known already with other content", hint="an op id names one piece of work")
        if first.trace_id != record.request.trace_id:
            emit(
                log, logging.INFO, "trace.adopted", f"{op_id} goes on under the trace that came first",
                first_trace_id=first.trace_id,
            )  # fmt: skip
        self._spool.drop_incoming(op_id)
