"""Files that are complete or absent, never half: atomic writes, no-overwrite publishing, free space."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.files_lock import Lock as Lock
from agent.adapters.files_lock import folder_lock as folder_lock
from agent.adapters.files_lock import is_locked as is_locked
from agent.errors import BadInput, NoSpace

MOST_OBJECT_BYTES = 1024 * 1024
TEMPORARY_PREFIX = "."
TEMPORARY_SUFFIX = ".tmp"


def write_atomic(path: Path, content: bytes, *, mode: int = 0o640) -> None:
    """Puts the whole content under `path`, replacing what is there; durable when it returns."""
    with _temporary_beside(path, content, mode) as temporary:
        temporary.rename(path)
    sync_folder(path.parent)


def write_stream(path: Path, chunks: Iterable[bytes], *, mode: int = 0o600) -> tuple[int, str]:
    """Writes chunks to a file that nobody reads yet, durable but for its name. Returns its bytes and their SHA-256.

    What it leaves when it raises is the caller's to remove.
    """
    digest, size_bytes = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
            digest.update(chunk)
            size_bytes += len(chunk)
        stream.flush()
        os.fsync(descriptor)
    return size_bytes, digest.hexdigest()


def publish(
    path: Path, content: bytes, *, mode: int = 0o640, gate: AbstractContextManager[object] | None = None
) -> bool:
    """Puts the whole content under `path` only if nothing is there. Returns whether it did.

    `gate` is entered for the last step alone, when all that takes time is done; it may raise to stop it.
    """
    with _temporary_beside(path, content, mode) as temporary:
        try:
            with gate or contextlib.nullcontext():
                os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


@contextlib.contextmanager
def unfinished_beside(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """An empty file of its own in the folder of `path`, gone after the block unless it was moved away."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def move_without_overwrite(source: Path, target: Path) -> bool:
    """link(2), then unlink: never replaces a file. Returns False when the target is there already."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return False
    sync_folder(target.parent)
    source.unlink(missing_ok=True)
    return True


def read_owned(path: Path, *, owner: int, most_bytes: int, folder: int | None = None) -> bytes:
    """Reads a regular file of that owner without following links; `path` is relative to `folder`, a descriptor.

    Raises BadInput with the reason (link, other owner, not a file, too large, a disk that does not give it back),
    FileNotFoundError when it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInput(f"{path.name} can not be opened as a plain file: {error.strerror}") from None
    try:
        _require_plain(path.name, os.fstat(descriptor), owner, most_bytes)
        stream = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with stream:
        try:
            content = stream.read(most_bytes + 1)
        except OSError as error:
            raise BadInput(f"{path.name} can not be read: {error.strerror}") from None
    if len(content) > most_bytes:
        raise BadInput(f"{path.name} has more than the {most_bytes} bytes allowed")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The texts and numbers of the JSON object in a small plain file, for onlookers.

    Empty when it is gone, or anything else lies there; what could not be printed again is left out.
    """
    try:
        content = read_owned(path, owner=path.parent.stat().st_uid, most_bytes=MOST_OBJECT_BYTES)
        found = json.loads(content)
    except (BadInput, FileNotFoundError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if _is_plain(value)} if isinstance(found, dict) else {}


def is_temporary(name: str) -> bool:
    """Whether a name is one that an unfinished write leaves."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


@dataclass(frozen=True)
class Entry:
    """A name in a folder; `version` is another one when another file lies under it, or the same with new content."""

    name: str
    version: tuple[int, int, int]


def entries_by_age(folder: Path) -> list[Entry]:
    """What is in a folder, the oldest first, without unfinished writes."""
    aged = []
    for entry in os.scandir(folder):
        if not is_temporary(entry.name):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                aged.append(
                    (status.st_mtime_ns, Entry(entry.name, (status.st_ino, status.st_ctime_ns, status.st_size)))
                )
    aged.sort(key=lambda one: (one[0], one[1].name))
    return [entry for _, entry in aged]


def names_by_age(folder: Path) -> list[str]:
    """The names in a folder, the oldest first, without unfinished writes."""
    return [entry.name for entry in entries_by_age(folder)]


def count(folder: Path) -> int:
    """How many names a folder has, without unfinished writes."""
    return sum(not is_temporary(entry.name) for entry in os.scandir(folder))


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_whole(path: Path) -> None:
    """Removes a file, or a folder with what is in it; no error when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def free_bytes(folder: Path) -> int:
    """What an unprivileged writer may still write there."""
    values = os.statvfs(folder)
    return values.f_bavail * values.f_frsize


def device(path: Path) -> int:
    """The file system that a file or folder is on. Raises OSError where it is not there or can not be looked at."""
    return path.stat().st_dev


def require_free(folder: Path, needed_bytes: int) -> None:
    """Raises NoSpace when the folder's file system has less than `needed_bytes` free."""
    free = free_bytes(folder)
    if free < needed_bytes:
        raise NoSpace(
            f"{folder} has {free:,} bytes free, this needs {needed_bytes:,}",
            hint="make room there or move the folder to another disk",
        )


def first_bytes(chunks: Iterable[bytes], most_bytes: int) -> bytes:
    """What a stream begins with, at most so many bytes; reads no further."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) >= most_bytes:
            break
    return bytes(content[:most_bytes])


def _is_plain(value: object) -> bool:
    if isinstance(value, int | float):
        return -(2**63) <= value < 2**63  # which NaN is not
    return value is None or isinstance(value, str)


def _require_plain(name: str, status: os.stat_result, owner: int, most_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{name} is not a regular file")
    if status.st_uid != owner:
        raise BadInput(f"{name} belongs to uid {status.st_uid}, not to uid {owner}, the spool's owner")
    if status.st_size > most_bytes:
        raise BadInput(f"{name} has {status.st_size} bytes, more than the {most_bytes} allowed")


@contextlib.contextmanager
def _temporary_beside(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        yield temporary
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # what is written by a descriptor has no name in the system's answer
        raise
