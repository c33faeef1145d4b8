"""Locks by flock(2): they end with the process that holds them, however it ends. A part of `files`."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

PAUSE_S = 0.01


class Lock:
    """An flock on a file that is never renamed or replaced, and is removed only while it is held and of no more use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def try_acquire(self, content: str = "") -> bool:
        """Takes the lock if it is free and writes `content` into the file. Returns whether it did."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            if not _flock(descriptor):
                os.close(descriptor)
                return False
            if _is_at(descriptor, self.path):
                break
            os.close(descriptor)  # removed as unused while we opened it: what we hold is nobody's lock any more
        self._descriptor = descriptor
        if content:
            self.write(content)
        return True

    def content(self) -> str:
        """What its holder, or if it is ours the last one, wrote into the file."""
        return self.path.read_text(errors="replace")

    def write(self, content: str) -> None:
        """Replaces the file's content in place; only its holder may."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content.encode(), 0)

    def close(self) -> None:
        """The same as `release`, for `contextlib.closing`."""
        self.release()

    def release(self) -> None:
        """Gives the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def remove_unused_lock(path: Path) -> bool:
    """Removes a lock file that nobody holds; whether it is gone.

    It is held meanwhile, and who opened it before finds another file, or none, under its name and opens that one.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        if not _flock(descriptor) or not _is_at(descriptor, path):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on that file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait_s: float) -> Iterator[bool]:
    """Holds flock on the folder itself; whether it could be had in that time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ends_at = time.monotonic() + wait_s
    try:
        while not (held := _flock(descriptor)) and time.monotonic() < ends_at:
            time.sleep(PAUSE_S)
        yield held
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
