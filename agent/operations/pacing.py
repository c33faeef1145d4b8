"""Sending no faster than a limit: whoever reads the chunks has to wait for them, and all that feeds them waits too."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from agent.domain import bandwidth
from agent.domain.bandwidth import Bandwidth
from agent.errors import UploadLimitTooLow
from agent.logs import emit

log = logging.getLogger(__name__)


class Pace:
    """What is sent at most in a second, 0 for no limit; one for all that a process sends.

    The limit is on what goes to the store for the first time: parts are sent at the link's own speed with pauses
    between, and one that is sent again after a fault is not counted twice.
    """

    def __init__(
        self, limit_bytes_per_s: int = 0, *, clock_s: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._limit = limit_bytes_per_s
        self._bandwidth = Bandwidth(limit_bytes_per_s) if limit_bytes_per_s else None
        self._clock_s, self._pause = clock_s, pause
        self._began_s = clock_s()
        self._paused_s = 0.0
        self.is_pausing = False
        self.taken_bytes = self.sent_bytes = 0

    @property
    def is_the_brake(self) -> bool:
        """Whether most of the time so far was spent on waiting for the limit, and not on a slow store."""
        return self._paused_s > (self._clock_s() - self._began_s) / 2

    def paced(
        self, chunks: Iterable[bytes], *, pause: Callable[[float], None] | None = None,
        on_bytes: Callable[[int], None] = lambda sent_bytes: None,
    ) -> Iterator[bytes]:  # fmt: skip
        """The chunks, each when it may go. `pause` sleeps, and raises when nobody wants them any more."""
        self.taken_bytes = self.sent_bytes = 0
        for chunk in chunks:
            self.taken_bytes += len(chunk)
            if self._bandwidth is not None:
                self._wait(self._bandwidth.wait_s(len(chunk), self._clock_s()), pause or self._pause)
            self.sent_bytes += len(chunk)
            on_bytes(self.sent_bytes)
            yield chunk

    def require(self, raw_size_bytes: int, time_s: float) -> None:
        """Raises UploadLimitTooLow when a database of that size does not go in the time, however well it compresses."""
        try:
            self.require_sent(bandwidth.least_sent_bytes(raw_size_bytes), time_s)
        except UploadLimitTooLow as error:
            emit(
                log, logging.WARNING, "upload.limit_too_low", f"it is not sent: {error.message}",
                error_code=error.code, error_message=error.message, error_hint=error.hint,
            )  # fmt: skip
            raise

    def require_sent(self, size_bytes: int, time_s: float) -> None:
        """Raises UploadLimitTooLow when so many bytes do not go in the time."""
        short = bandwidth.shortfall(size_bytes, self._limit, time_s)
        if short is not None:
            raise UploadLimitTooLow(
                f"at {short.bytes_per_s:,} bytes/s some {short.size_bytes:,} bytes take {short.needed_s:,.0f} s, "
                f"and there are {max(0.0, time_s):,.0f} s",
                hint=f"raise store.upload_limit_bytes_per_s to {short.needed_bytes_per_s:,} at least, or "
                f"snapshot.timeout_s to more than {short.needed_s:,.0f}",
            )

    def needed_s(self, size_bytes: int) -> float:
        """How long so many bytes take at the limit, 0 without one."""
        return self._bandwidth.needed_s(size_bytes) if self._bandwidth is not None else 0.0

    def too_low(self, left_bytes: int) -> UploadLimitTooLow:
        """The error for a time that was over while the limit held up the sender."""
        return UploadLimitTooLow(
            f"{self.sent_bytes:,} bytes went at {self._limit:,} bytes/s until the time was over, and of the file "
            f"{left_bytes:,} bytes were left",
            hint="raise store.upload_limit_bytes_per_s, or snapshot.timeout_s",
        )

    def _wait(self, wait_s: float, pause: Callable[[float], None]) -> None:
        if wait_s <= 0:
            return
        self._paused_s += wait_s
        self.is_pausing = True
        try:
            pause(wait_s)
        finally:
            self.is_pausing = False
