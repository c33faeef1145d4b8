"""How far something is, how fast it goes and how long it still takes, out of samples of its bytes."""

from collections import deque
from dataclasses import dataclass
from typing import Any

WINDOW_S = 10.0
LEAST_WINDOW_S = 0.5  # a rate over less says more of the buffers than of the work
LEAST_PACKED_BYTES = 1024 * 1024  # before that the compressor's own buffer spoils the ratio
MOST_ETA_S = 30 * 86400.0  # more is no forecast


@dataclass(frozen=True)
class Packed:
    """So many raw bytes became so many compressed ones."""

    raw_bytes: int = 0
    packed_bytes: int = 0


NOTHING_PACKED = Packed()


@dataclass(frozen=True)
class Progress:
    """How far a step is; what is not known is None. `percent` is of `total_bytes`, the ratio raw to compressed."""

    step: str
    done_bytes: int = 0
    total_bytes: int = 0
    percent: int | None = None
    rate_bytes_per_s: int | None = None
    packed_bytes: int = 0
    ratio: float | None = None
    eta_s: int | None = None

    def document(self) -> dict[str, Any]:
        """As `progress/<op_id>.json` has it: `step` and `bytes`, and of the rest what is known."""
        more = {
            "total_bytes": self.total_bytes or None, "percent": self.percent,
            "rate_bytes_per_s": self.rate_bytes_per_s, "packed_bytes": self.packed_bytes or None, "ratio": self.ratio,
            "eta_s": self.eta_s,
        }  # fmt: skip
        return {"step": self.step, "bytes": self.done_bytes} | {
            name: value for name, value in more.items() if value is not None
        }


class Window:
    """The samples of the last seconds; a count that goes back begins anew."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, done_bytes: int) -> None:
        """A sample; one at the time of the last, or before it, takes its place."""
        if self._samples and done_bytes < self._samples[-1][1]:
            self._samples.clear()
        while self._samples and self._samples[-1][0] >= at_s and len(self._samples) > 1:
            self._samples.pop()
        if self._samples and self._samples[-1][0] >= at_s:
            return
        self._samples.append((at_s, done_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= at_s - self._window_s:
            self._samples.popleft()  # the last one before the window stays: the window is whole

    def rate_bytes_per_s(self) -> float | None:
        """Over the window, None while it is too short."""
        if len(self._samples) < 2:
            return None
        (first_s, first_bytes), (last_s, last_bytes) = self._samples[0], self._samples[-1]
        if last_s - first_s < LEAST_WINDOW_S:
            return None
        return (last_bytes - first_bytes) / (last_s - first_s)


def percent(done_bytes: int, total_bytes: int) -> int | None:
    """Rounded down, 100 at most; None where the total is not known."""
    return min(100, 100 * done_bytes // total_bytes) if total_bytes > 0 else None


def ratio(packed: Packed) -> float | None:
    """Raw to compressed, None before enough is compressed."""
    if packed.packed_bytes < LEAST_PACKED_BYTES:
        return None
    return round(packed.raw_bytes / packed.packed_bytes, 1)


def eta_s(done_bytes: int, total_bytes: int, rate_bytes_per_s: float | None) -> int | None:
    """Seconds until the total at that rate, None where either is not known or the work stands still."""
    if total_bytes <= 0 or not rate_bytes_per_s or rate_bytes_per_s < 0:
        return None
    left_s = max(0, total_bytes - done_bytes) / rate_bytes_per_s
    return round(left_s) if left_s <= MOST_ETA_S else None


def made(step: str, done_bytes: int, total_bytes: int, rate_bytes_per_s: float | None, packed: Packed) -> Progress:
    """All that follows from the figures."""
    return Progress(
        step, done_bytes, total_bytes, percent(done_bytes, total_bytes),
        None if rate_bytes_per_s is None else round(rate_bytes_per_s), packed.packed_bytes, ratio(packed),
        eta_s(done_bytes, total_bytes, rate_bytes_per_s),
    )  # fmt: skip
