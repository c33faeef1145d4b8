"""Thin, bounded reading below the node's root: a file's text, whether something is there, what a folder holds.

Whatever stops a look is said as a reason. Content that a person wrote is never part of it: it may hold secrets.
"""

import os
import stat
from pathlib import Path

MOST_BYTES = 64 * 1024
MOST_NAMES = 2000
SUDO = "run it as root, by sudo"


class Unreadable(Exception):
    """Something is there and can not be read as a plain small text file; `reason` names it and says why."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Reader:
    """Looks at files below `root`; names are absolute paths of the node, as `/etc/kubernetes`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._looked_at: dict[str, None] = {}

    @property
    def looked_at(self) -> tuple[str, ...]:
        """Every path that was asked for, in order."""
        return tuple(self._looked_at)

    def path(self, name: str) -> str:
        """Where a path of the node lies, below the root."""
        return str(self._root / os.path.normpath("/" + name).lstrip("/"))

    def text(self, name: str) -> str | None:
        """A file's content, None when it is not there. Raises Unreadable."""
        content = self.content(name)
        if content is None:
            return None
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise Unreadable(f"{self.path(name)} is not text", "what wrote it? it should be a text file") from None

    def content(self, name: str) -> bytes | None:
        """A file's bytes, None when it is not there. Raises Unreadable: not a file, too large, no right."""
        path = self._noted(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _explained(path, error) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path} is not a regular file", "it should be one: `ls -ld` shows what it is")
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                content = stream.read(MOST_BYTES + 1)
        except OSError as error:
            raise _explained(path, error) from None
        finally:
            os.close(descriptor)
        if len(content) > MOST_BYTES:
            raise Unreadable(
                f"{path} has more than {MOST_BYTES} bytes", "is it the right file? larger ones are not read"
            )
        return content

    def may_read(self, name: str) -> str:
        """Empty when a file is there and this user may read it, else the reason why not."""
        try:
            return "" if self.content(name) is not None else f"{self.path(name)} does not exist"
        except Unreadable as error:
            return error.reason

    def is_there(self, name: str, *, follow: bool = True) -> bool:
        """Whether something has that name. Raises Unreadable where this user may not look."""
        path = self._noted(name)
        try:
            Path(path).stat(follow_symlinks=follow)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _explained(path, error) from None
        return True

    def link_target(self, name: str) -> str:
        """What a symbolic link names, empty when it is none."""
        try:
            return str(Path(self._noted(name)).readlink())
        except OSError:
            return ""

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder, none when it is not there. Raises Unreadable."""
        path = self._noted(folder)
        try:
            with os.scandir(path) as entries:
                found = sorted(entry.name for entry, _ in zip(entries, range(MOST_NAMES + 1), strict=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _explained(path, error) from None
        if len(found) > MOST_NAMES:
            raise Unreadable(f"{path} has more than {MOST_NAMES} entries", "is it the right folder?")
        return found

    def _noted(self, name: str) -> str:
        path = self.path(name)
        self._looked_at[path] = None
        return path


def _explained(path: str, error: OSError) -> Unreadable:
    if isinstance(error, PermissionError):
        return Unreadable(f"{path}: permission denied to this user", SUDO)
    return Unreadable(f"{path}: {error.strerror}", "`ls -l` and `dmesg` may say more")
