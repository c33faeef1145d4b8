"""How far the current step is, told to onlookers some times a second and to the log every ten seconds."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.domain import progress
from agent.domain.progress import NOTHING_PACKED, Packed, Progress, Window
from agent.logs import emit

REPORT_INTERVAL_S = 0.25
LOG_INTERVAL_S = 10.0
log = logging.getLogger(__name__)


class StepProgress:
    """One for all steps of an attempt. A step of less than ten seconds has no line of its own."""

    def __init__(
        self, report: Callable[[Mapping[str, Any]], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._report = report
        self._clock_s = clock_s
        self._step = ""
        self._window = Window()
        self._reported_at_s = self._logged_at_s = clock_s()

    def begin(self, step: str) -> None:
        """A step begins, of which only the name is known."""
        self._step, self._window = step, Window()
        self._logged_at_s = self._clock_s()
        self._reported_at_s = self._logged_at_s - REPORT_INTERVAL_S
        self._report(Progress(step).document())

    def tell(self, done_bytes: int, total_bytes: int = 0, packed: Packed = NOTHING_PACKED) -> None:
        """How far it is: of how many bytes, 0 where nobody knows, and what was compressed of them."""
        now_s = self._clock_s()
        if not done_bytes or now_s - self._reported_at_s < REPORT_INTERVAL_S:
            return
        self._reported_at_s = now_s
        self._window.add(now_s, done_bytes)
        made = progress.made(self._step, done_bytes, total_bytes, self._window.rate_bytes_per_s(), packed)
        self._report(made.document())
        if now_s - self._logged_at_s >= LOG_INTERVAL_S:
            self._logged_at_s = now_s
            _log(made)


def _log(made: Progress) -> None:
    of_all = f" of {made.total_bytes:,}, {made.percent} %" if made.percent is not None else ""
    emit(
        log, logging.INFO, "step.progress", f"{made.step}: {made.done_bytes:,} bytes{of_all}",
        done_bytes=made.done_bytes, total_bytes=made.total_bytes or None, percent=made.percent,
        rate_bytes_per_s=made.rate_bytes_per_s, packed_bytes=made.packed_bytes or None, ratio=made.ratio,
        eta_s=made.eta_s,
    )  # fmt: skip
