"""What the daemon asks for by itself: to ship what lies in the outbox, and to look whether a snapshot is due."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from agent import trace
from agent.adapters import process
from agent.adapters.spool import ENDS, Found, Spool
from agent.domain import request as requests
from agent.domain import slots
from agent.domain.request import Record, Request, format_moment
from agent.errors import AgentError
from agent.logs import emit

MOST_DOUBLINGS = 4
FAILED_LOOK_S = 60.0
SOONEST_S = 0.5  # so that what can not be asked never becomes a loop
MOST_GENERATIONS = 500_000
log = logging.getLogger(__name__)


class Schedule(Protocol):
    """Something that the daemon does by itself when it is time."""

    def look(self) -> None:
        """Asks when it is time. Cheap: called in each turn of the daemon."""
        ...

    def next_in_s(self) -> float | None:
        """In how many seconds it wants a turn; None where the daemon's next scan is soon enough."""
        ...


class LookSchedule:
    """Has a worker look whether a snapshot is due, when the last look said, at once after a start.

    All looks are generations of one operation, so the folder of results holds the newest alone.
    """

    def __init__(
        self, spool: Spool, op_id: str, boot_clock_s: Callable[[], float] = process.boot_clock_s
    ) -> None:  # fmt: skip
        self._spool = spool
        self._op_id = op_id
        self._clock_s = boot_clock_s
        self._is_asked = False
        self._due_s = 0.0

    def look(self) -> None:
        """Asks when it is time, one look at a time."""
        found = self._found()
        if found is not None and found.state not in ENDS:
            self._is_asked = True
            return
        if self._is_asked:
            self._is_asked = False
            self._due_s = self._clock_s() + _wait_s(found)
        if self._clock_s() >= self._due_s:
            self._ask(found)

    def next_in_s(self) -> float | None:
        """A short greatest age leaves less time than there is between two scans. While a look runs its end wakes."""
        return None if self._is_asked else max(SOONEST_S, self._due_s - self._clock_s())

    def _found(self) -> Found | None:
        try:
            return self._spool.find(self._op_id)
        except AgentError:
            return None  # its record is damaged, which others tell; a new one takes its place

    def _ask(self, last: Found | None) -> None:
        self._due_s = self._clock_s() + FAILED_LOOK_S
        trace_id = trace.new_trace_id()
        with trace.bound(trace_id=trace_id, op_id=self._op_id, operation="schedule"):
            request = _request("schedule", self._op_id, trace_id)
            try:
                self._is_asked = self._spool.submit(Record(request, self._next_generation(last)))
            except (AgentError, OSError) as error:
                emit(log, logging.WARNING, "schedule.not_looked", f"tried again in {FAILED_LOOK_S:g} s: {error}")

    def _next_generation(self, last: Found | None) -> int:
        if last is None:
            return 1
        if last.record.generation < MOST_GENERATIONS:
            return last.record.generation + 1
        self._spool.path(last.state, self._op_id).unlink(missing_ok=True)  # numbers have an end
        return 1


def _request(operation: str, op_id: str, trace_id: str) -> Request:
    now = format_moment(datetime.now(UTC))
    return requests.make(op_id=op_id, operation=operation, trace_id=trace_id, source="node", requested_at=now)


def _wait_s(found: Found | None) -> float:
    """What the last look said; a while where it failed."""
    result = found.record.result if found is not None else None
    said = result.output.get("look_again_in_s") if result is not None else None
    if not isinstance(said, int | float) or isinstance(said, bool):
        return FAILED_LOOK_S
    return min(max(float(said), slots.LEAST_WAIT_S), slots.MOST_LOOK_S)


class OutboxSchedule:
    """Offers the outbox to the store: a little after something came into it, then with back-off until it is empty."""

    def __init__(
        self, spool: Spool, kept: Callable[[], int], retry_interval_s: float,
        boot_clock_s: Callable[[], float] = process.boot_clock_s,
    ) -> None:  # fmt: skip
        self._spool = spool
        self._kept = kept
        self._retry_interval_s = retry_interval_s
        self._clock_s = boot_clock_s
        self._op_id = ""
        self._left = 0
        self._failures = 0
        self._due_s: float | None = None

    def look(self) -> None:
        """Asks when it is time. One request at a time: while the last one is not over, nothing is asked."""
        kept = self._kept()
        if not kept:
            self._failures, self._due_s, self._left = 0, None, 0
            return
        if self._is_asked():
            return
        if kept < self._left:
            self._failures = 0  # something was taken, so the store is there
        self._left = kept
        if self._due_s is None:
            self._due_s = self._clock_s() + self._retry_interval_s
        if self._clock_s() >= self._due_s:
            self._ask(kept)

    def next_in_s(self) -> float | None:
        """Nobody waits for it to the second."""
        return None

    def _is_asked(self) -> bool:
        if not self._op_id:
            return False
        try:
            found = self._spool.find(self._op_id)
        except AgentError:
            return False  # its record is damaged, which others tell
        return found is not None and found.state not in ENDS

    def _ask(self, kept: int) -> None:
        wait_s = self._retry_interval_s * 2 ** min(self._failures, MOST_DOUBLINGS)
        self._failures += 1
        self._due_s = self._clock_s() + wait_s
        self._op_id = f"outbox-{trace.new_span_id()}"
        trace_id = trace.new_trace_id()
        with trace.bound(trace_id=trace_id, op_id=self._op_id, operation="outbox"):
            request = _request("outbox", self._op_id, trace_id)
            try:
                self._spool.submit(Record(request))
            except (AgentError, OSError) as error:
                emit(log, logging.WARNING, "outbox.not_offered", f"tried again in {wait_s:g} s: {error}")
                return
            emit(log, logging.INFO, "outbox.offered", f"asks the store to take what is kept: {kept}", kept=kept)
