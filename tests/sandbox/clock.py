"""Time for the stand-ins: it can run faster than the real one, and tests move it forward instead of waiting."""

import time


class Clock:
    """Seconds since the epoch that pass `factor` times as fast as real ones."""

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor
        self._started_at = time.monotonic()
        self._epoch = time.time()

    def now(self) -> float:
        """The time here, in seconds since the epoch."""
        return self._epoch + (time.monotonic() - self._started_at) * self._factor

    def advance(self, seconds: float) -> None:
        """Moves the time forward at once."""
        self._epoch += seconds
