"""What the daemon does now and then: old results and their locks go, and what killed writers left.

The wall clock may jump, so it decides nothing here; that it jumped is told.
"""

import contextlib
import logging
import time
from pathlib import Path

from agent.adapters import process
from agent.adapters.spool import ENDS, SUFFIX, Entry, Spool, remove_unused_lock
from agent.domain import keeping
from agent.domain.request import is_op_id
from agent.logs import emit

KEPT_STATES = (*ENDS, "rejected")
UNFINISHED_FOR_S = 60.0
JUMP_S = 5.0
log = logging.getLogger(__name__)


class Housekeeping:
    """Of one spool and its locks."""

    def __init__(self, *, spool: Spool, locks: Path, kept_s: float) -> None:
        self._spool = spool
        self._locks = locks
        self._kept_s = kept_s
        self._unfinished: dict[Path, tuple[int, float]] = {}  # inode, and when it was first seen, by the boot clock

    def prune(self) -> int:
        """Removes ended and rejected files that were there for longer than they are kept; returns how many."""
        ledger = keeping.counted(
            self._spool.read_ledger(), boot_id=process.boot_id(), boot_clock_s=process.boot_clock_s()
        )
        entries = {_key(state, entry): (state, entry) for state in KEPT_STATES for entry in self._spool.entries(state)}
        ledger = keeping.seen(ledger, entries)
        removed = []
        try:
            for key, (state, entry) in entries.items():
                if keeping.is_outlived(ledger, key, kept_s=self._kept_s):
                    self._remove(state, entry)
                    removed.append(key)
        finally:
            self._spool.write_ledger(keeping.seen(ledger, entries.keys() - set(removed)))
        return len(removed)

    def sweep(self) -> None:
        """Removes temporary files that were seen a while ago already; younger ones may be at work."""
        now_s = process.boot_clock_s()
        found: dict[Path, tuple[int, float]] = {}
        for path in self._spool.unfinished_writes():
            with contextlib.suppress(FileNotFoundError):
                inode = path.lstat().st_ino
                known_inode, since_s = self._unfinished.get(path, (inode, now_s))
                if known_inode == inode and now_s - since_s >= UNFINISHED_FOR_S:
                    path.unlink()
                else:
                    found[path] = (inode, since_s if known_inode == inode else now_s)
        self._unfinished = found

    def _remove(self, state: str, entry: Entry) -> None:
        """The lock goes first: a crash between leaves the result, which is found again."""
        op_id = entry.name.removesuffix(SUFFIX)
        if state in ENDS and is_op_id(op_id) and not self._spool.is_live(op_id):
            remove_unused_lock(self._locks / op_id)
        self._spool.remove(state, entry)


def _key(state: str, entry: Entry) -> str:
    return f"{state}/{'.'.join(str(part) for part in entry.version)}"


class WallClock:
    """Tells when somebody set the clock: it is compared with the one that nobody sets."""

    def __init__(self) -> None:
        self._ahead_s = time.time() - process.boot_clock_s()

    def look(self) -> None:
        """Logs a jump since the last look."""
        ahead_s = time.time() - process.boot_clock_s()
        jumped_s = ahead_s - self._ahead_s
        self._ahead_s = ahead_s
        if abs(jumped_s) >= JUMP_S:
            emit(
                log, logging.WARNING, "clock.jumped",
                f"the clock jumped by {jumped_s:+.0f} s; deadlines and the keeping of results do not go by it",
                jumped_s=round(jumped_s, 3),
            )  # fmt: skip
