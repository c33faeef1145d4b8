"""The outbox: a folder of compressed snapshots, each with a draft beside it that is written last."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.adapters import files
from agent.domain import outbox
from agent.domain.outbox import Bounds, Draft, Kept
from agent.errors import SnapshotInvalid

DATA_SUFFIX = ".db.zst"
DRAFT_SUFFIX = ".json"
CHUNK_BYTES = 1024 * 1024
UNFINISHED_FOR_S = 3600.0


class OutboxFolder:
    """A snapshot is in it when its draft is: data without one are what a crash left."""

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self._folder = folder
        self.bounds = bounds

    def describe(self, snapshot_id: str) -> str:
        """Where a snapshot is kept."""
        return str(self._data(snapshot_id))

    def write(self, snapshot_id: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Puts the data there, durably, not yet counted. Returns bytes and SHA-256. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._data(snapshot_id)
        part = target.with_name(f".{target.name}.tmp")
        try:
            written = files.write_stream(part, chunks)
            part.rename(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        files.sync_folder(self._folder)
        return written

    def commit(self, snapshot_id: str, draft: Draft) -> None:
        """From here on it is kept. Raises OSError."""
        files.write_atomic(self._draft(snapshot_id), outbox.encode(draft), mode=0o600)

    def kept(self) -> list[Kept]:
        """What is kept, the oldest first; one whose draft can not be read is there too."""
        found = []
        for path in sorted(self._folder.glob(f"*{DRAFT_SUFFIX}")):
            snapshot_id = path.name.removesuffix(DRAFT_SUFFIX)
            with contextlib.suppress(FileNotFoundError):  # its data, or it was shipped meanwhile
                found.append(Kept(snapshot_id, self._data(snapshot_id).stat().st_size, _read(path)))
        return found

    def find(self, snapshot_id: str) -> Draft | None:
        """The draft of a snapshot, None when it is not kept or can not be read."""
        return next((one.draft for one in self.kept() if one.snapshot_id == snapshot_id), None)

    @contextlib.contextmanager
    def open(self, snapshot_id: str) -> Iterator[Iterator[bytes]]:
        """The data as chunks of 1 MiB. Raises OSError."""
        with self._data(snapshot_id).open("rb") as stream:
            yield iter(lambda: stream.read(CHUNK_BYTES), b"")

    def remove(self, snapshot_id: str) -> None:
        """Draft first: a crash leaves data that do not count, which `sweep` removes."""
        self._draft(snapshot_id).unlink(missing_ok=True)
        self._data(snapshot_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what crashes left: data without a draft, drafts without data and unfinished files, an hour old."""
        if not self._folder.exists():
            return
        whole = {one.snapshot_id for one in self.kept()}
        for path in list(self._folder.iterdir()):
            snapshot_id = path.name.removesuffix(DATA_SUFFIX).removesuffix(DRAFT_SUFFIX)
            with contextlib.suppress(FileNotFoundError):
                if snapshot_id not in whole and time.time() - path.stat().st_mtime > UNFINISHED_FOR_S:
                    path.unlink()

    def _data(self, snapshot_id: str) -> Path:
        return self._folder / f"{snapshot_id}{DATA_SUFFIX}"

    def _draft(self, snapshot_id: str) -> Path:
        return self._folder / f"{snapshot_id}{DRAFT_SUFFIX}"


def count(folder: Path) -> int:
    """How many snapshots are kept; cheap, for the daemon."""
    with contextlib.suppress(FileNotFoundError):
        names = (path.name for path in folder.iterdir())
        return sum(name.endswith(DRAFT_SUFFIX) and not name.startswith(".") for name in names)
    return 0


def _read(path: Path) -> Draft | None:
    try:
        return outbox.decode(path.read_bytes(), path.name)
    except SnapshotInvalid:
        return None
