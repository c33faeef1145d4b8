"""Bringing a growing file to the disk piece by piece, so that the one sync at its end has little left to do.

etcdctl syncs its file once, when it is whole. All of it is dirty by then, and etcd's own small syncs wait behind it on
the same disk. Written back as it grows, the disk works while the processors do.
"""

import contextlib
import os
from concurrent.futures import Future, ThreadPoolExecutor

STRIDE_BYTES = 32 * 1024 * 1024


class Writeback:
    """Syncs a file beside whoever reads it; one sync at a time, and none waits for another."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_bytes = STRIDE_BYTES
        self._pool = ThreadPoolExecutor(1, "writeback")
        self._last: Future[None] | None = None

    def __enter__(self) -> "Writeback":
        return self

    def __exit__(self, *raised: object) -> None:
        self.settle()
        self._pool.shutdown()

    def reached(self, size_bytes: int) -> None:
        """The file has so many bytes at least: starts a sync where enough came since the last one began."""
        if size_bytes < self._next_bytes or (self._last is not None and not self._last.done()):
            return
        self._next_bytes = size_bytes + STRIDE_BYTES
        self._last = self._pool.submit(self._sync)

    def settle(self) -> None:
        """Returns when no sync is on its way."""
        if self._last is not None:
            self._last.result()

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # etcdctl's own sync is the one that counts, and it reports
            os.fdatasync(self._descriptor)
