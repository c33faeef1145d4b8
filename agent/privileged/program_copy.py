"""One program out of another root folder into a folder of root's: whole and durable, or not there."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from agent.adapters import inside_root
from agent.adapters.held_folder import HeldFolder
from agent.domain.etcd_tools import MOST_TOOL_BYTES, PinnedTool
from agent.errors import NoSpace

CHUNK_BYTES = 1024 * 1024
ELF_IDENTITY_BYTES = 20  # magic, class, byte order, …, type and machine


def copy_program(root: int, path: str, name: str, folder: HeldFolder) -> PinnedTool:
    """Copies one program. Raises FileNotFoundError; ValueError with the reason why this file is not taken."""
    try:
        source, _ = inside_root.open_regular(root, path, MOST_TOOL_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise ValueError(f"can not be opened: {error.strerror}") from None
    with os.fdopen(source, "rb", buffering=0) as stream:
        start = stream.read(ELF_IDENTITY_BYTES) or b""
        if not start.startswith(b"\x7fELF") or _machine(start) != _machine(_own_start()):
            raise ValueError("is no program for this machine")
        with _kept_whole(folder, name) as descriptor:
            digest, size = hashlib.sha256(), 0
            chunk = start
            while chunk:
                size += len(chunk)
                if size > MOST_TOOL_BYTES:
                    raise ValueError(f"has more than the {MOST_TOOL_BYTES:,} bytes allowed")
                digest.update(chunk)
                _write_all(descriptor, chunk)
                chunk = stream.read(CHUNK_BYTES) or b""
    return PinnedTool(name, digest.hexdigest(), size, path)  # type: ignore[arg-type]


@contextlib.contextmanager
def _kept_whole(folder: HeldFolder, name: str) -> Iterator[int]:
    """A descriptor for a new program, which is durable after the block, or gone when that raises."""
    descriptor = folder.create(name, 0o755)
    try:
        yield descriptor
        os.fsync(descriptor)
    except BaseException:
        folder.remove(name)
        raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NoSpace("no room for the copy of the etcd tools", hint="make room on that disk") from None
            raise


def _own_start() -> bytes:
    with Path("/proc/self/exe").open("rb") as stream:
        return stream.read(ELF_IDENTITY_BYTES)


def _machine(start: bytes) -> bytes:
    """Class, byte order and machine of an ELF file: what must be the same for a program to run here."""
    return start[4:6] + start[18:20]
