"""The points of a process that lie in the system's own functions, whoever calls them."""

import io
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Injector(Protocol):
    """Who is told of the points."""

    def place_of(self, path: Any, folder_descriptor: int | None = None) -> str: ...

    def around(self, kind: str, place: str) -> AbstractContextManager[None]: ...


def wrap(injector: Injector) -> None:
    """Puts points around the functions of `os` that change a folder, and around files that are opened for writing."""

    def by_path(name: str, kind: str, at: int = 0) -> None:
        original = getattr(os, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            descriptor = named.get("dir_fd", named.get("dst_dir_fd"))
            place = injector.place_of(arguments[at], descriptor)
            if not place or (name == "open" and not arguments[1] & (os.O_CREAT | os.O_TRUNC)):  # only looked at
                return original(*arguments, **named)
            with injector.around(kind, place):
                return original(*arguments, **named)

        _replace(name, original, wrapped)

    def by_descriptor(name: str, kind: str) -> None:
        original = getattr(os, name)

        def wrapped(descriptor: int, *arguments: Any) -> Any:
            place = injector.place_of(Path(f"/proc/self/fd/{descriptor}").readlink())
            if not place:
                return original(descriptor, *arguments)
            with injector.around(kind, place):
                return original(descriptor, *arguments)

        _replace(name, original, wrapped)

    # Of those with two paths the place is the second one, where the name appears.
    for name, kind, at in (
        ("link", "link", 1), ("rename", "rename", 1), ("replace", "rename", 1), ("unlink", "unlink", 0),
        ("remove", "unlink", 0), ("rmdir", "rmdir", 0), ("mkdir", "mkdir", 0), ("open", "create", 0),
    ):  # fmt: skip
        by_path(name, kind, at)
    for name, kind in (("fsync", "fsync"), ("ftruncate", "write"), ("pwrite", "write")):
        by_descriptor(name, kind)
    _wrap_io_open(injector)


def _replace(name: str, original: Any, wrapped: Any) -> None:
    setattr(os, name, wrapped)
    for known in (os.supports_dir_fd, os.supports_follow_symlinks, os.supports_fd):
        if original in known:  # what shutil asks before it removes a tree
            known.add(wrapped)


def _wrap_io_open(injector: Injector) -> None:
    """`Path.open` and `Path.write_text` come by here: created empty before, written and closed by whoever asked."""
    original = io.open

    def wrapped(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        place = "" if isinstance(file, int) or not set(mode) & set("wax+") else injector.place_of(file)
        if not place:
            return original(file, mode, *arguments, **named)
        with injector.around("create", place):
            return original(file, mode, *arguments, **named)

    io.open = wrapped
