"""Child processes: the only importer of `subprocess`.

A worker is the leader of its own session and process group; what it starts stays in that group, so that one
kill ends an attempt whole. A group is known after a crash by its number, the boot, and the op id in the
environment of its processes, so a number that was used again is never killed.
"""

import contextlib
import errno
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import trace
from agent.errors import CommandMissing, CommandTimeout

INHERITED_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR")
NOT_A_PROGRAM = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR})
TICK_S = 0.2
GROUP_END_S = 10.0
MOST_PID_DIGITS = 7  # of the kernel's largest, 4194304; int() itself raises for thousands of them


@dataclass(frozen=True)
class Completed:
    """How a child ended and what it printed."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command as a person would type it."""
        return shlex.join(self.argv)


def find(name: str, folder: str = "") -> str:
    """The path of a program: in `folder` if given, else on PATH. Raises CommandMissing."""
    found = shutil.which(name, path=folder or None)
    if found is None:
        where = folder or f"PATH ({os.environ.get('PATH', '')})"
        raise CommandMissing(
            f"{name} is not in {where}", hint="install it, or set etcd.tools_dir to the folder it is in"
        )
    return found


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: str = "",
    on_tick: Callable[[], None] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Completed:
    """Runs a child to its end with a scrubbed environment that carries the trace.

    `on_tick` is called about five times a second meanwhile; `variables` are added to the environment. Raises
    CommandTimeout (the child is killed) and CommandMissing; a non-zero exit is for the caller to judge. Nothing secret
    may stand in `argv`.
    """
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**child_environment(os.environ), **(variables or {})},
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _explained(argv[0], error) from None
    with child:
        try:
            stdout, stderr = _communicate(child, stdin, timeout_s, on_tick)
        except subprocess.TimeoutExpired:
            raise CommandTimeout(
                f"`{shlex.join(argv)}` did not end within {timeout_s:g} s and was killed",
                hint="look at the load and the disk of this node and of the member it talks to",
            ) from None
        finally:
            if child.poll() is None:
                child.kill()
    return Completed(tuple(argv), child.returncode, stdout, stderr)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child gets: a closed list of variables (no ETCDCTL_*, no proxy, no credentials) and the trace."""
    kept = {name: environment[name] for name in INHERITED_VARIABLES if name in environment}
    return {**kept, **trace.child_environment()}


@dataclass(frozen=True)
class Worker:
    """A worker process, started by this daemon."""

    op_id: str
    child: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.child.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self.child.poll()

    def terminate(self) -> None:
        """Asks the worker, not its children, to clean up and end."""
        self.child.terminate()


def spawn_worker(argv: Sequence[str], op_id: str, environment: Mapping[str, str]) -> Worker:
    """Starts a worker as leader of a session of its own; stderr is shared, so journald gets its lines."""
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**environment, "ETCD_AGENT_OP_ID": op_id},
            start_new_session=True,
        )
    except OSError as error:
        raise _explained(argv[0], error) from None
    return Worker(op_id, child)


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_clock_s() -> float:
    """Seconds since boot, suspend included: the clock that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def attempt_identity() -> str:
    """What a worker writes into its lock: its process group and the boot in which that number means something."""
    return f"{os.getpgrp()} {boot_id()}"


def end_attempt(identity: str, op_id: str) -> None:
    """Kills what is left of the attempt that wrote `identity`; returns when it is gone."""
    group, _, boot = identity.partition(" ")
    if group.isascii() and group.isdigit() and len(group) <= MOST_PID_DIGITS and boot == boot_id():
        kill_group(int(group), op_id)


def group_processes(group: int, op_id: str) -> list[int]:
    """The living processes of a group that carry the op id; zombies do not count."""
    return [
        int(entry.name)
        for entry in os.scandir("/proc")
        if entry.name.isdigit() and _group_if_alive(entry.name) == group and _carries(entry.name, op_id)
    ]


def kill_group(group: int, op_id: str) -> None:
    """Kills what is left of an attempt and returns when it is gone. Raises CommandTimeout when it will not go."""
    ends_at = time.monotonic() + GROUP_END_S
    pause_s = 0.001
    processes: list[int] = []
    # One that was killed shows no variables any more while it still holds its files and locks, so it is remembered.
    while processes := sorted({*group_processes(group, op_id), *_still_of(group, processes)}):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > ends_at:
            raise CommandTimeout(
                f"processes {processes} of operation {op_id} do not end although they were killed",
                hint="they hang in the kernel, most likely on a disk: look at `cat /proc/PID/stack`",
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def _explained(program: str, error: OSError) -> CommandMissing | OSError:
    if error.errno not in NOT_A_PROGRAM:
        return error
    return CommandMissing(
        f"{program} can not be run: {error.strerror}",
        hint="is it there, executable, and built for this machine? etcd.tools_dir names the folder to look in",
    )


def _communicate(
    child: subprocess.Popen[str], stdin: str, timeout_s: float, on_tick: Callable[[], None] | None
) -> tuple[str, str]:
    ends_at = time.monotonic() + timeout_s
    text: str | None = stdin
    while True:
        left_s = ends_at - time.monotonic()
        try:
            return child.communicate(text, timeout=min(TICK_S, left_s) if on_tick else left_s)
        except subprocess.TimeoutExpired:
            if on_tick is None or time.monotonic() >= ends_at:
                raise
            text = None
            on_tick()


def _still_of(group: int, processes: Sequence[int]) -> list[int]:
    return [pid for pid in processes if _group_if_alive(str(pid)) == group]


def _group_if_alive(pid: str) -> int:
    """The process group of a pid, 0 if it is gone or a zombie."""
    try:
        fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[2])


def _carries(pid: str, op_id: str) -> bool:
    try:
        variables = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"ETCD_AGENT_OP_ID={op_id}".encode() in variables
