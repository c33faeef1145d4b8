"""Parked operations: asked again every so often by a caretaker, let go in turn, ended when their time is over."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.adapters import process
from agent.adapters.spool import SUFFIX, Entry, Spool, lock_at
from agent.domain import attempts, cancellation
from agent.domain.request import OPERATIONS, Record, slot_is_free
from agent.errors import BadInput
from agent.logs import emit
from agent.recovery import Recovery, time_left_s
from agent.workers import Workers, bound_to, going_on

MOST_AT_ONCE = 4
RETRY_S = 1.0
log = logging.getLogger(__name__)


@dataclass
class Parked:
    """What is known of one of them; times are of the boot clock."""

    version: tuple[int, int, int]
    record: Record
    due_at_s: float = 0.0
    locked_since_s: float | None = None  # by a worker that is not ours
    ends: int = 0  # caretakers started to end it

    @property
    def order(self) -> tuple[int, str]:
        """The most urgent first, then the one that waits longest."""
        parking = self.record.parking
        return (parking.priority, parking.since) if parking else (0, "")


class Parking:
    """The folder `waiting/` of one node."""

    def __init__(self, *, spool: Spool, locks: Path, workers: Workers, recovery: Recovery, interval_s: float) -> None:
        self._spool = spool
        self._locks = locks
        self._workers = workers
        self._recovery = recovery
        self._interval_s = interval_s
        self._known: dict[str, Parked] = {}  # by op_id
        self._first_wait_s = 0.0  # what a former daemon left is asked at once, what parks later was asked just now

    def __len__(self) -> int:
        return len(self._known)

    def look(self) -> None:
        """Reads what is new, and starts caretakers for what is due, the most urgent first."""
        entries = {entry.name.removesuffix(SUFFIX): entry for entry in self._spool.entries("waiting")}
        self._known = {op_id: one for op_id, one in self._known.items() if op_id in entries}
        for op_id, entry in entries.items():
            with going_on(f"waiting/{op_id[:100]}"):
                self._read(op_id, entry)
        self._first_wait_s = self._interval_s
        for one in sorted(self._known.values(), key=lambda one: one.order):
            with bound_to(one.record), going_on(one.record.request.op_id):
                self._look_after(one)

    def start_ready(self, taken: set[str]) -> None:
        """Lets those go that may, the most urgent first, each when its slot is free; who waits keeps the slot."""
        for one in sorted(self._known.values(), key=lambda one: one.order):
            record = one.record
            slot = OPERATIONS[record.request.operation].slot
            if record.parking is None or not record.parking.may_go or self._has_to_end(record):
                continue
            is_free = slot_is_free(slot, taken)
            taken.add(slot)
            if is_free and record.request.op_id not in self._workers.caretakers:
                with bound_to(record), going_on(record.request.op_id):
                    self._let_go(record)

    def next_in_s(self) -> float | None:
        """Seconds until the next one is due, or None; the end of a caretaker wakes what is due but had to wait."""
        now_s = process.boot_clock_s()
        times = [one.due_at_s for one in self._known.values()]
        times += [one.record.acceptance.deadline_boot_s for one in self._known.values() if one.record.acceptance]
        return min((at_s - now_s for at_s in times if at_s > now_s), default=None)

    def caretaker_ended(self, op_id: str) -> None:
        """From here on its time until the next look runs."""
        if op_id in self._known:
            self._known[op_id].due_at_s = process.boot_clock_s() + self._interval_s

    def _read(self, op_id: str, entry: Entry) -> None:
        known = self._known.get(op_id)
        if known is not None and known.version == entry.version:
            return
        try:
            record = self._spool.read("waiting", op_id)
        except FileNotFoundError:
            return
        except BadInput as error:
            self._known.pop(op_id, None)
            self._recovery.put_aside("waiting", op_id, error)
            return
        if self._spool.ended(op_id, record.generation):
            self._known.pop(op_id, None)
            self._spool.drop_waiting(op_id)
        elif known is None:
            self._known[op_id] = Parked(entry.version, record, process.boot_clock_s() + self._first_wait_s)
        else:
            known.version, known.record = entry.version, record

    def _look_after(self, one: Parked) -> None:
        record, op_id = one.record, one.record.request.op_id
        running = self._workers.caretakers.get(op_id)
        ends = self._has_to_end(record)
        if running is not None:
            if ends and not one.ends:
                running.ask_to_end()  # it was started to ask, not to end it
            return
        if self._is_held_by_another(one):
            return
        if record.acceptance is None or record.acceptance.boot_id != process.boot_id():
            one.record = record = self._recovery.accept(record)
            self._spool.park(record)
        if ends and one.ends:
            self._end(record)
        elif ends or (one.due_at_s <= process.boot_clock_s() and self._may_ask(one)):
            one.ends += ends
            self._workers.start_caretaker(record)

    def _has_to_end(self, record: Record) -> bool:
        left_s = time_left_s(record.acceptance)
        return (left_s is not None and left_s <= 0) or self._recovery.asked_to_cancel(record) is not None

    def _may_ask(self, one: Parked) -> bool:
        """A few side by side, and none while a more urgent one is asked, which may change its answer."""
        asked = list(self._asked())
        return len(asked) < MOST_AT_ONCE and all(other.order[0] >= one.order[0] for other in asked)

    def _asked(self) -> Iterator[Parked]:
        yield from (self._known[op_id] for op_id in self._workers.caretakers if op_id in self._known)

    def _is_held_by_another(self, one: Parked) -> bool:
        """A former daemon's caretaker is left to end, but no longer than one of ours may take."""
        lock = lock_at(self._locks / one.record.request.op_id)
        now_s = process.boot_clock_s()
        try:
            if lock.try_acquire():
                one.locked_since_s = None
                return False
            one.due_at_s = max(one.due_at_s, now_s + RETRY_S)
            if one.locked_since_s is None:
                one.locked_since_s = now_s
            elif now_s - one.locked_since_s > self._workers.caretaker_s + self._workers.clean_up_s:
                process.end_attempt(lock.content(), one.record.request.op_id)
            return True
        finally:
            lock.release()

    def _let_go(self, record: Record) -> None:
        """Under its lock, so that no former worker can write its record meanwhile."""
        op_id = record.request.op_id
        with contextlib.closing(self._recovery.lock_of(op_id)) as lock:
            if not lock.try_acquire() or self._spool.read("waiting", op_id) != record:
                return
            self._spool.unpark(record)
            self._known.pop(op_id, None)
            emit(log, logging.INFO, "operation.unparked", "it goes on", attempt=record.attempt + 1)
            self._workers.start(self._recovery.accepted_in_this_boot(record), lock)

    def _end(self, record: Record) -> None:
        """No caretaker could."""
        asked = self._recovery.asked_to_cancel(record)
        if asked is not None:
            self._recovery.end(record, cancellation.failure(record, asked), cancel_trace_id=asked.trace_id)
        elif record.parking is not None:
            self._recovery.end(record, attempts.overdue(record.parking))
