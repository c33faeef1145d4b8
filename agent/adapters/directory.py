"""The directory store: the reference behaviour of a store, needing nothing but a folder."""

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from agent.adapters import files
from agent.domain import snapshot
from agent.errors import BadInput, KeyTaken, NoSpace, SnapshotInvalid, SnapshotNotFound, StoreError
from agent.ports import MOST_SMALL_BYTES, StoredObject, UploadJournal

CHUNK_BYTES = 1024 * 1024
UNFINISHED = f"{files.TEMPORARY_PREFIX}*.{'[0-9a-f]' * 8}{files.TEMPORARY_SUFFIX}"
UNFINISHED_FOR_S = 3600.0  # a small file is written within seconds; other nodes may write here too


class DirectoryStore:
    """Objects as files below `folder`. Nothing is ever overwritten; partial writes are under hidden names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> str:
        """The folder, and that it may be gone with the node."""
        return f"directory {self._folder} (on this node: gone with it unless it is a network file system)"

    def put(
        self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str], journal: UploadJournal,
        before_commit: Callable[[], None] = lambda: None,
    ) -> StoredObject:  # fmt: skip
        """Writes beside the target, syncs, reads back and compares, then links; no file when this raises."""
        target = self._path(key)
        part = target.with_name(f".{target.name}.tmp")
        journal.begin(key, "")
        try:
            _make_folders(target.parent)
            size_bytes, digest = files.write_stream(part, chunks)
            if _hash_of(part) != digest:
                raise StoreError(f"{target} reads back other bytes than were written", hint="check this disk")
            before_commit()
            if not files.move_without_overwrite(part, target):
                raise KeyTaken(f"{target} exists already")
        except OSError as error:
            raise explained(error, self._folder) from error
        finally:
            with contextlib.suppress(OSError):  # what went wrong before is what counts
                part.unlink(missing_ok=True)
            journal.clear()
        return StoredObject(key, size_bytes, digest, "", "passed")

    def put_if_absent(self, key: str, content: bytes, *, metadata: Mapping[str, str]) -> bool:
        """Publishes a small file; False when the key holds other content."""
        target = self._path(key)
        try:
            _make_folders(target.parent)
            self._remove_unfinished(time.time() - UNFINISHED_FOR_S)
            return files.publish(target, content) or self._beginning(key, len(content) + 1) == content
        except OSError as error:
            raise explained(error, self._folder) from error

    def keys(self, folder: str) -> list[str]:
        """Every file below a folder, without unfinished ones; raises rather than return an incomplete listing."""
        top = self._path(folder)
        try:
            if not top.exists():
                return []
            return sorted(path.relative_to(self._folder).as_posix() for path in _files_below(top))
        except OSError as error:
            raise explained(error, self._folder) from error

    def read(self, key: str) -> bytes:
        """A small object, whole. Raises SnapshotNotFound, SnapshotInvalid when it is not small."""
        content = self._beginning(key, MOST_SMALL_BYTES + 1)
        if len(content) > MOST_SMALL_BYTES:
            raise SnapshotInvalid(f"{self._path(key)} has more than {MOST_SMALL_BYTES:,} bytes: no manifest has")
        return content

    @contextlib.contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[Iterator[bytes]]:
        """An object as chunks of 1 MiB."""
        try:
            stream = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise SnapshotNotFound(f"{self._path(key)} does not exist") from None
        except OSError as error:
            raise explained(error, self._folder) from error
        with stream:
            yield self._chunks(stream)

    def _beginning(self, key: str, most_bytes: int) -> bytes:
        with self.open(key) as chunks:
            return files.first_bytes(chunks, most_bytes)

    def _chunks(self, stream: BinaryIO) -> Iterator[bytes]:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
        except OSError as error:
            raise explained(error, self._folder) from error

    def abandon(self, key: str, upload_id: str) -> None:
        """Removes the hidden file of an attempt that was killed, and its data: without a manifest it is no backup.

        With one it stays: a power cut can bring back a journal that was removed before the manifest was written.
        """
        target = self._path(key)
        try:
            target.with_name(f".{target.name}.tmp").unlink(missing_ok=True)
            if not self._is_backup(key):
                target.unlink(missing_ok=True)
        except OSError as error:
            raise explained(error, self._folder) from error

    def _is_backup(self, key: str) -> bool:
        """Whether a manifest names these data; one that can not be read may."""
        manifest_key = snapshot.manifest_key_of_data(key)
        if not manifest_key:
            return False
        try:
            return snapshot.decode_manifest(self.read(manifest_key), manifest_key).data.key == key
        except SnapshotNotFound:
            return False
        except SnapshotInvalid:
            return True

    def _remove_unfinished(self, older_than_s: float) -> None:
        """The small files that killed writers left, in whatever folder; unfinished data are in their journals."""
        for path in self._folder.rglob(UNFINISHED):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < older_than_s:
                    path.unlink()

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise BadInput(f"{key!r} is not a key of a store")
        return self._folder / key


def _make_folders(folder: Path) -> None:
    """Durable when it returns: the first backup must not be gone with its folder after a power cut.

    A snapshot holds every Secret of the cluster: no group reads it, whatever group reads the log.
    """
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir(mode=0o700, exist_ok=True)
        files.sync_folder(path.parent)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path


def _hash_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def explained(error: OSError, folder: Path) -> StoreError | NoSpace:
    """What the system refused, in the words of a store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"the store {folder} is full: {error.strerror}", hint="make room or prune old snapshots")
    return StoreError(
        f"the store {folder} can not be used: {error.strerror}",
        hint=f"the service user must be able to write there: `ls -ld {folder}`",
    )
