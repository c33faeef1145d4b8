"""A folder held by its descriptor: what is done in it follows no link and can not be led elsewhere by a rename.

For the root service, whose folders lie below one of a less privileged user. Names are single path components.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.adapters import files
from agent.errors import FileUnusable

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
REMEDY = "`systemd-tmpfiles --create` makes the folders as they must be"


class HeldFolder:
    """An open folder; closed at the end of its `with` block."""

    def __init__(self, descriptor: int, told: str) -> None:
        self.descriptor = descriptor
        self.told = told

    @classmethod
    def open(cls, path: Path) -> "HeldFolder":
        """A folder by its path, of which only the last part must be no link. Raises FileUnusable."""
        return cls(_opened(os.fspath(path), None, os.fspath(path)), os.fspath(path))

    def child(self, name: str) -> "HeldFolder":
        """A folder in this one. Raises FileUnusable when it is missing, a link, or no folder."""
        told = f"{self.told}/{name}"
        return HeldFolder(_opened(name, self.descriptor, told), told)

    def __enter__(self) -> "HeldFolder":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @property
    def owner(self) -> int:
        """The uid it belongs to."""
        return os.fstat(self.descriptor).st_uid

    def require_own(self, *, group_may_write: bool = False) -> None:
        """Raises FileUnusable unless the folder is this process's own, and writable by nobody else."""
        status = os.fstat(self.descriptor)
        others = stat.S_IWOTH | (0 if group_may_write else stat.S_IWGRP)
        if status.st_uid != os.geteuid() or status.st_mode & others:
            raise FileUnusable(
                f"{self.told} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}: "
                "others could write there",
                hint=REMEDY,
            )

    def lock(self) -> None:
        """Waits until no other process holds this folder's lock; it ends with the descriptor."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def names(self) -> list[str]:
        """What lies in it, by name."""
        return sorted(os.listdir(self.descriptor))  # noqa: PTH208 - of a descriptor, which Path can not

    def modified_at(self, name: str) -> float:
        """When an entry last changed, in seconds of the epoch. Raises FileNotFoundError."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mtime

    def read(self, name: str, *, owner: int, most_bytes: int) -> bytes:
        """A regular file of that owner. Raises BadInput, FileNotFoundError."""
        return files.read_owned(Path(name), owner=owner, most_bytes=most_bytes, folder=self.descriptor)

    def create(self, name: str, mode: int) -> int:
        """A descriptor to write a file that must not be there yet; the mode holds whatever the umask."""
        descriptor = os.open(name, FRESH, mode, dir_fd=self.descriptor)
        os.fchmod(descriptor, mode)
        return descriptor

    def write_atomic(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """Puts the whole content under the name, replacing what is there; durable when it returns."""
        temporary = temporary_name(name)
        try:
            with os.fdopen(self.create(temporary, mode), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            self.rename(temporary, name)
        except BaseException:
            self.remove(temporary)
            raise
        self.sync()

    def make_folder(self, name: str, mode: int = 0o755) -> "HeldFolder":
        """A new folder in this one."""
        os.mkdir(name, mode, dir_fd=self.descriptor)
        made = self.child(name)
        os.fchmod(made.descriptor, mode)
        return made

    def rename(self, name: str, to: str) -> None:
        """Gives an entry another name in the same folder."""
        os.rename(name, to, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Removes a file, a link, or a folder with the files in it; no error when it is gone."""
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=self.descriptor)
            except (IsADirectoryError, PermissionError):
                with self.child(name) as inner:
                    for each in inner.names():
                        os.unlink(each, dir_fd=inner.descriptor)
                os.rmdir(name, dir_fd=self.descriptor)

    def sync(self) -> None:
        """Makes the folder's entries durable."""
        os.fsync(self.descriptor)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Names what could not be used in an OSError of the block, which else has a bare name of a held folder."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, what) from error


def temporary_name(name: str) -> str:
    """A name of its own for what is not finished yet; `files.is_temporary` knows it."""
    return f"{files.TEMPORARY_PREFIX}{name}.{secrets.token_hex(4)}{files.TEMPORARY_SUFFIX}"


def _opened(name: str, folder: int | None, told: str) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except OSError as error:
        raise FileUnusable(f"{told} can not be opened as a folder: {error.strerror}", hint=REMEDY) from None
