"""Files of another root folder, such as a container's: its links are followed inside it and never out of it.

The kernel is only ever given one name at a time, relative to an open folder and without following links. What a link
says is read as text and walked from the given root; `..` goes back along the folders that were passed. So whatever the
folder holds, and however it changes meanwhile, nothing outside it can be reached.
"""

import errno
import os
import stat
from collections import deque

MOST_LINKS = 40
MOST_DEPTH = 64
MOST_PARTS = 4096
STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def resolve(root: int, path: str) -> int:
    """What the path names inside that root, as a descriptor that only points (O_PATH). Raises OSError."""
    passed = [os.dup(root)]
    parts, links, walked = deque(path.split("/")), 0, 0
    try:
        while parts:
            name, walked = parts.popleft(), walked + 1
            if walked > MOST_PARTS or len(passed) > MOST_DEPTH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            if name == "..":
                if len(passed) > 1:
                    os.close(passed.pop())
            elif name not in ("", "."):
                passed.append(os.open(name, STEP, dir_fd=passed[-1]))
                if stat.S_ISLNK(os.fstat(passed[-1]).st_mode):
                    links += 1
                    parts.extendleft(reversed(_target(passed, links, path)))
        return passed.pop()
    finally:
        for descriptor in passed:
            os.close(descriptor)


def open_regular(root: int, path: str, most_bytes: int) -> tuple[int, os.stat_result]:
    """A regular file inside that root, open for reading. Raises OSError; ValueError says why it is not fit.

    Nothing but a regular file is ever opened: opening a device or a pipe could already do something, or wait.
    """
    pointer = resolve(root, path)
    try:
        status = os.fstat(pointer)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"is {_kind(status.st_mode)}")
        if status.st_size > most_bytes:
            raise ValueError(f"has {status.st_size:,} bytes, more than the {most_bytes:,} allowed")
        # The same inode again, now for reading: the link in /proc leads to the descriptor and to nothing else.
        return os.open(f"/proc/self/fd/{pointer}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), status
    finally:
        os.close(pointer)


def _target(passed: list[int], links: int, path: str) -> list[str]:
    """Takes a link off the way and returns the parts that it stands for; an absolute one starts at the root again."""
    if links > MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    link = passed.pop()
    try:
        target = os.readlink("", dir_fd=link)
    finally:
        os.close(link)
    if target.startswith("/"):
        while len(passed) > 1:
            os.close(passed.pop())
    return target.split("/")


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
    }  # fmt: skip
    return names.get(stat.S_IFMT(mode), "no regular file")
