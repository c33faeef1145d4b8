"""A limit on bytes per second: when the next ones may go. Clock values are given, in seconds of any one clock."""

from dataclasses import dataclass

MOST_RATIO = 10  # better than etcd's data is usually compressed, so what does not fit even then surely does not


class Bandwidth:
    """Books bytes one after the other, each as long as it takes at the limit; they may go when that time is over.

    Time that nobody used is made up for, up to `credit_s`: so short waits for a disk or a store do not make the whole
    slower than the limit. Within any time t no more than `bytes_per_s * (t + credit_s)` go.
    """

    def __init__(self, bytes_per_s: int, credit_s: float = 1.0) -> None:
        self._bytes_per_s = bytes_per_s
        self._credit_s = credit_s
        self._free_at_s: float | None = None

    def wait_s(self, size_bytes: int, now_s: float) -> float:
        """Books bytes. Returns the seconds from now after which they may go."""
        if self._free_at_s is None:
            self._free_at_s = now_s
        start_s = max(self._free_at_s, now_s - self._credit_s)
        self._free_at_s = start_s + self.needed_s(size_bytes)
        return max(0.0, self._free_at_s - now_s)

    def needed_s(self, size_bytes: int) -> float:
        """How long so many bytes take at the limit."""
        return size_bytes / self._bytes_per_s


@dataclass(frozen=True)
class Shortfall:
    """So many bytes do not go within the time at a limit; `needed_bytes_per_s` would do, and `needed_s` at it."""

    size_bytes: int
    bytes_per_s: int
    needed_s: float
    needed_bytes_per_s: int


def shortfall(size_bytes: int, bytes_per_s: int, time_s: float) -> Shortfall | None:
    """None when the bytes go within the time; a limit of 0 is none."""
    if not bytes_per_s or size_bytes <= bytes_per_s * time_s:
        return None
    needed = int(size_bytes / time_s) + 1 if time_s > 0 else size_bytes
    return Shortfall(size_bytes, bytes_per_s, size_bytes / bytes_per_s, needed)


def least_sent_bytes(raw_size_bytes: int) -> int:
    """What a database of that size will at least be, compressed."""
    return raw_size_bytes // MOST_RATIO
