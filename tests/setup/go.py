"""Programs built from Go source: the toolchain on PATH, and everything that it keeps below the cache folder.

Standard library only.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = "unfinished-"


class BuildFailed(Exception):
    """A command of the build ended with an error, which it printed itself."""


def unfit(least: tuple[int, int], kept: Path) -> str:
    """Why the Go on PATH can not build what needs at least that version; empty when it can."""
    if shutil.which("go") is None:
        return "there is no go on PATH"
    given = environment(os.environ, kept)
    words = subprocess.run(["go", "version"], capture_output=True, text=True, env=given, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", words)
    if found is None or (int(found[1]), int(found[2])) < least:
        return f"it needs Go {least[0]}.{least[1]} or newer, there is {words.strip() or 'none that answers'}"
    return ""


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Builds into `folder` one at a time on this machine, and clears what a killed one left there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left)
        yield


def scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder to build in; what is whole leaves it by one rename, so nothing half is ever found outside."""
    return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder)


def run(arguments: Sequence[str], *, kept: Path, folder: Path, more: Mapping[str, str] | None = None) -> None:
    """One call of `go` in `folder` that keeps modules, build cache and counters below `kept`. Raises BuildFailed."""
    command = ["go", *arguments]
    given = environment(os.environ, kept) | dict(more or {})
    if subprocess.run(command, cwd=folder, env=given, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise BuildFailed(f"failed: {' '.join(command)}\n  next: is the Go module proxy reachable from here?")


def environment(given: Mapping[str, str], kept: Path) -> dict[str, str]:
    """The environment of a build: the user's proxies and settings, but nothing kept outside `kept`."""
    config = given.get("XDG_CONFIG_HOME") or str(Path(given.get("HOME") or "/nonexistent") / ".config")
    return {
        **given,
        # Never the toolchain that a go.mod asks for: it would be fetched, and be another one on each machine.
        "GOTOOLCHAIN": "local",
        "GOENV": given.get("GOENV") or f"{config}/go/env",
        "GOPATH": str(kept),
        "GOMODCACHE": str(kept / "pkg/mod"),
        "GOCACHE": str(kept / "build"),
        # What is in the module cache can be removed like any file.
        "GOFLAGS": f"{given.get('GOFLAGS', '')} -modcacherw".strip(),
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        # Go's own counters go below the folder of configurations.
        "XDG_CONFIG_HOME": str(kept / "config"),
    }
