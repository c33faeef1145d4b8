"""Keeps a booted node: its mounts, its cgroup and its processes, which are gone when whoever started it is.

A process of its own, in a mount namespace of its own, so that nothing of the node outlives it, and in a session of
its own, so that no Ctrl-C reaches it. It ends when its standard input does, whatever ended the tests. Commands come
as JSON lines, answers go the same way. Standard library only.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "etcd-agent-node-"
# What systemd-nspawn exits with when the node wants to boot again and nobody but its caller can do that.
EXIT_REBOOT = 133
CGROUP_EMPTY_S = 10.0
PROPAGATE = Path("/run/systemd/nspawn")


class Gone(Exception):
    """Whoever started the keeper is gone."""


class Keeper:
    """One node: `folder` is a tmpfs, `folder/root` an overlay of this machine's root folder."""

    def __init__(self, folder: Path, nspawn: Sequence[str], environment: Mapping[str, str]) -> None:
        self._root = folder / "root"
        # keep-unit: no systemd of this machine is to make a unit for it, if there is one at all.
        own = ["--quiet", "--register=no", "--keep-unit", "--console=pipe"]
        self._nspawn = [*nspawn, *own, f"--directory={self._root}", f"--machine=node-{os.getpid()}"]
        self._environment = {**os.environ, **environment, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self._commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._child: subprocess.Popen[bytes] | None = None
        self._gone = threading.Event()

    def serve(self) -> None:
        """Carries out commands until the input ends."""
        threading.Thread(target=self._read, daemon=True).start()
        tell({"folder": os.fspath(self._root.parent)})
        while (command := self._commands.get()) is not None:
            with contextlib.suppress(Gone):
                self._run(command) if "run" in command else self._boot(command)

    def _read(self) -> None:
        for line in sys.stdin:
            self._commands.put(json.loads(line))
        self._gone.set()
        self._commands.put(None)
        if (child := self._child) is not None:
            child.kill()

    def _run(self, command: Mapping[str, Any]) -> None:
        """A program in the tree before it boots, with this machine's network."""
        with tempfile.TemporaryFile() as output:
            child = self._start([*command["options"], "--", *command["run"]], output.fileno())
            code = child.wait()
            output.seek(0)
            tell({"ended": code, "output": output.read().decode(errors="replace")})

    def _boot(self, command: Mapping[str, Any]) -> None:
        """Boots it, and again whenever it wants to."""
        with Path(command["console"]).open("ab") as console:
            while True:
                child = self._start(["--boot", "--private-network"], console.fileno())
                if leader := leader_of(child):
                    tell({"leader": leader})
                if (code := child.wait()) != EXIT_REBOOT or self._gone.is_set():
                    break
        tell({"ended": code})

    def _start(self, options: Sequence[str], output: int) -> "subprocess.Popen[bytes]":
        self._child = child = subprocess.Popen(
            [*self._nspawn, *options], env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        if self._gone.is_set():  # it ended between two looks
            child.kill()
            child.wait()
            raise Gone
        return child


def leader_of(child: "subprocess.Popen[bytes]") -> int | None:
    """The pid, seen from here, of the node's process 1; None when systemd-nspawn ended before there was one."""
    while child.poll() is None:
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split():
                if is_process_1(Path("/proc", pid)):
                    return int(pid)
        time.sleep(0.01)
    return None


def is_process_1(process: Path) -> bool:
    """Whether it is process 1 of a PID namespace and is systemd by now."""
    lines = (process / "status").read_text().splitlines()
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1" and (process / "comm").read_text() == "systemd\n"


def mount(folder: Path) -> None:
    """The node's tree; gone with this mount namespace. Raises CalledProcessError."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "etcd-agent-node", folder)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    layers = f"lowerdir=/,upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run("mount", "-t", "overlay", "-o", layers, "etcd-agent-node", folder / "root")


@contextlib.contextmanager
def own_propagation() -> Iterator[None]:
    """The folder that systemd-nspawn leaves things in, in this mount namespace alone."""
    missing = [path for path in (PROPAGATE, *PROPAGATE.parents) if not path.exists()]
    PROPAGATE.mkdir(parents=True, exist_ok=True)
    try:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "etcd-agent-node", PROPAGATE)
        yield
    finally:
        subprocess.run(["umount", "--lazy", PROPAGATE], check=False)
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def own_cgroups(name: str) -> Iterator[None]:
    """Cgroups for this process and what it starts: two nodes at once would share systemd-nspawn's otherwise."""
    before = list(current_cgroups())
    made = [folder / name for folder in before]
    try:
        for folder in made:
            folder.mkdir()
            enter(folder)
        yield
    finally:
        for folder in before:
            with contextlib.suppress(OSError):
                enter(folder)
        for folder in made:
            remove_cgroup(folder)


def current_cgroups() -> Iterator[Path]:
    """This process's cgroups in the hierarchies that systemd uses: its own of version 1, and version 2."""
    mounts: dict[str, tuple[str, Path]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup2" or "name=systemd" in options.split(","):
            mounts[kind] = (root, Path(point))
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if found := mounts.get({"": "cgroup2", "name=systemd": "cgroup"}.get(controllers, "")):
            top, folder = found
            yield folder / os.path.relpath(path, top)


def enter(folder: Path) -> None:
    """Moves this process there. Raises OSError, also where that is no cgroup but a folder that looks like one."""
    with (folder / "cgroup.procs").open("r+") as file:
        file.write(str(os.getpid()))


def remove_cgroup(folder: Path) -> None:
    """Kills what is in it, since a node outlives a killed systemd-nspawn, and removes it with all below it."""
    ends_at = time.monotonic() + CGROUP_EMPTY_S
    while folder.exists() and time.monotonic() < ends_at:
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                for pid in (Path(path) / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        time.sleep(0.02)


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def tell(answer: Mapping[str, Any]) -> None:
    """One answer; nobody may be there any more."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), (json.dumps(answer) + "\n").encode())


def main() -> int:
    """Arguments: the command of systemd-nspawn. Says `impossible` with the reason where this machine does not do."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # No SIG_IGN: what this process starts would ignore them too.
        signal.signal(number, lambda number, frame: None)
    library, *nspawn = sys.argv[1:]
    environment = {"LD_LIBRARY_PATH": library} if library else {}
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with contextlib.ExitStack() as stack:
            try:
                mount(folder)
                stack.enter_context(own_propagation())
                stack.enter_context(own_cgroups(folder.name))
            except (OSError, subprocess.CalledProcessError) as error:
                tell({"impossible": (getattr(error, "stderr", "") or str(error)).strip()})
                return 0
            Keeper(folder, nspawn, environment).serve()
    finally:
        subprocess.run(["umount", "--lazy", folder / "root", folder], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
