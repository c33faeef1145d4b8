"""Room on this node's disks: where etcd's own data lie, a floor of free space stays, so that etcd never feels us.

etcd raises NOSPACE by its quota and stops where its disk is full; both are worse than a snapshot that was not taken.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.domain.outbox import to_free
from agent.errors import NoSpace
from agent.logs import emit
from agent.operations import outbox
from agent.ports import Outbox

# Beside etcd's folder itself: people put these on a disk of their own.
ETCD_FOLDERS = ("member/snap", "member/wal")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Disks:
    """Where things lie, and the bytes that stay free where etcd's data do; 0 turns that off.

    `device` tells the file system of a folder (st_dev) and raises OSError; `store` is the folder of a directory store.
    """

    device: Callable[[Path], int]
    etcd_data: Path
    outbox: Path
    store: Path | None
    floor_bytes: int


@dataclass(frozen=True)
class _Need:
    """What is to be written into a folder, what must stay free after it, and whether the outbox may give way for it."""

    folder: Path
    needed_bytes: int
    floor_bytes: int = 0
    outbox_is_there: bool = False


@dataclass(frozen=True)
class Room:
    """The disks as an operation sees them; `disks` is None where nothing is known of etcd's own."""

    free_bytes: Callable[[Path], int]
    box: Outbox | None = None
    disks: Disks | None = None

    def require(
        self, folder: Path, needed_bytes: int, what: str, *, stored_bytes: int = 0, may_drop: bool = False,
        hint: str = "make room on that disk before etcd itself feels it",
    ) -> None:  # fmt: skip
        """Raises NoSpace unless so much may be written into a folder, and so much more into a store that is a folder.

        With `may_drop` copies of the outbox give way first, where they lie on etcd's disk and that is enough.
        """
        for need in self._needs(folder, needed_bytes, stored_bytes):
            short_bytes = self._short_bytes(need)
            if short_bytes > 0 and may_drop and need.outbox_is_there:
                self._drop(need, short_bytes)
                short_bytes = self._short_bytes(need)
            if short_bytes > 0:
                raise self._error(need, what, hint)

    def guarded(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """What is written into the outbox, as long as the floor stays free. Raises NoSpace."""
        disks, of_etcd = self.disks, self._etcd_devices()
        is_there = disks is not None and _device_of(disks, disks.outbox) in of_etcd
        for chunk in chunks:
            if disks is not None and is_there:
                self._guard(_Need(disks.outbox, len(chunk), disks.floor_bytes, outbox_is_there=True))
            yield chunk

    def _guard(self, need: _Need) -> None:
        if (short_bytes := self._short_bytes(need)) > 0:
            self._drop(need, short_bytes)
            if self._short_bytes(need) > 0:
                raise self._error(need, "keeping the snapshot here", "make room on that disk; is the store back?")

    def _needs(self, folder: Path, needed_bytes: int, stored_bytes: int) -> Iterator[_Need]:
        disks, of_etcd = self.disks, self._etcd_devices()
        if disks is None or not of_etcd:
            yield _Need(folder, needed_bytes)
            return
        outbox_is_there = _device_of(disks, disks.outbox) in of_etcd
        store_is_there = bool(stored_bytes) and disks.store is not None and _device_of(disks, disks.store) in of_etcd
        if _device_of(disks, folder) in of_etcd:
            both_bytes = needed_bytes + (stored_bytes if store_is_there else 0)
            yield _Need(folder, both_bytes, disks.floor_bytes, outbox_is_there)
            return
        yield _Need(folder, needed_bytes)
        if store_is_there and disks.store is not None:
            yield _Need(disks.store, stored_bytes, disks.floor_bytes, outbox_is_there)

    def _etcd_devices(self) -> frozenset[int]:
        """The file systems of etcd's data; none where there is no floor or they can not be seen."""
        disks = self.disks
        if disks is None or not disks.floor_bytes:
            return frozenset()
        try:
            found = {disks.device(disks.etcd_data)}
        except OSError as error:
            emit(
                log, logging.WARNING, "disk.not_seen",
                f"on which disk {disks.etcd_data} lies can not be seen, so none is left free for it: {error.strerror}",
                path=str(disks.etcd_data),
            )  # fmt: skip
            return frozenset()
        for name in ETCD_FOLDERS:
            with contextlib.suppress(OSError):
                found.add(disks.device(disks.etcd_data / name))
        return frozenset(found)

    def _short_bytes(self, need: _Need) -> int:
        return need.needed_bytes + need.floor_bytes - self._free(need.folder)

    def _free(self, folder: Path) -> int:
        """Of the folder, or where it would be made."""
        for parent in (folder, *folder.parents):
            with contextlib.suppress(FileNotFoundError):
                return self.free_bytes(parent)
        return 0

    def _drop(self, need: _Need, short_bytes: int) -> None:
        """Lets copies of the outbox go if that is enough; what only etcd needs, the floor itself, in any case."""
        if self.box is None:
            return
        kept = self.box.kept()
        going = to_free(kept, short_bytes)
        if sum(one.size_bytes for one in going) < short_bytes:
            going = to_free(kept, need.floor_bytes - self._free(need.folder))
        outbox.drop(self.box, going)

    def _error(self, need: _Need, what: str, hint: str) -> NoSpace:
        free = self._free(need.folder)
        told = f"{need.folder} has {free:,} bytes free, {what} needs {need.needed_bytes:,}"
        if not need.floor_bytes or self.disks is None:
            return NoSpace(told, hint=hint)
        return NoSpace(
            f"{told}, and {need.floor_bytes:,} must stay free there: it is the disk of etcd's own data, "
            f"{self.disks.etcd_data}",
            hint="make room on that disk before etcd itself feels it, or move the agent's folders or the store to "
            "another one; the floor is snapshot.etcd_disk_floor_bytes",
        )


def _device_of(disks: Disks, folder: Path) -> int | None:
    """The file system that a folder of ours is on, or would be made on; None where that can not be seen."""
    for parent in (folder, *folder.parents):
        try:
            return disks.device(parent)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
