"""A small file system of its own (tmpfs) at a folder, that can be filled and refused; mounting one needs root."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAMESPACE_MARK = "ETCD_AGENT_OWN_MOUNTS"


class NoSmallDisk(Exception):
    """None can be made here; says why."""


@dataclass(frozen=True)
class SmallDisk:
    """A mounted one."""

    folder: Path
    size_bytes: int

    def leave(self, free_bytes: int) -> None:
        """Leaves about so many bytes free: whole pages."""
        values = os.statvfs(self.folder)
        used_bytes = (values.f_blocks - values.f_bfree) * values.f_frsize
        # 0 would mean no limit at all; a page is the least there is.
        self._remount(f"size={max(used_bytes + free_bytes, values.f_frsize)}")

    def refuse(self) -> None:
        """Takes no writes. Raises RuntimeError while a file is open for writing."""
        self._remount("ro")

    def mend(self) -> None:
        """As it was made."""
        self._remount(f"rw,size={self.size_bytes}")

    def _remount(self, options: str) -> None:
        done = _mount("-o", f"remount,{options}", str(self.folder))
        if done.returncode != 0:
            raise RuntimeError(f"{self.folder} can not be remounted {options}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """One at the folder, gone after the block with what was in it. Raises NoSmallDisk."""
    if os.geteuid() != 0:
        raise NoSmallDisk("needs root: mounts a small file system")
    folder.mkdir(parents=True, exist_ok=True)
    done = _mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "none", str(folder))
    if done.returncode != 0:
        raise NoSmallDisk(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder, size_bytes)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def in_own_namespace(argv: list[str]) -> None:
    """Starts this program anew with mounts of its own, which are gone with it however it ends; root alone can.

    `argv` is what follows the Python program. Returns where it is done, or can not be.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None or NAMESPACE_MARK in os.environ:
        return
    options = ["--mount", "--propagation", "private"]
    if subprocess.run([unshare, *options, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[NAMESPACE_MARK] = "1"
        os.execv(unshare, [unshare, *options, sys.executable, *argv])  # noqa: S606 - no shell is wanted


def _mount(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
