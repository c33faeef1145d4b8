"""Finding and killing the processes of a node under test, whoever started them."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

ROLES = {"run": "daemon", "--caretaker": "caretaker", "worker": "worker", "submit": "submit", "cancel": "cancel"}
TOOL_NAMES = ("/etcdctl", "/etcdutl")


def role_of(argv: Sequence[str]) -> str:
    """What an agent's process is there for: `daemon`, `worker`, `caretaker`, `submit`, `cancel`, or `other`."""
    for word, role in ROLES.items():
        if word in argv:
            return role
    return "other"


def processes_of(root: str, role: str = "") -> list[int]:
    """The living processes of a node, known by their HOME; of one role: an agent's, `tool`, or `script`."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
            argv = Path(entry.path, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if f"HOME={root}".encode() not in variables or argv == [""]:  # a zombie has no command line
            continue
        is_agent = "agent" in argv or any(word.endswith("/etcd-agent") for word in argv[:2])
        other = "tool" if any(word.endswith(TOOL_NAMES) for word in argv) else "script"
        if not role or role == (role_of(argv) if is_agent else other):
            found.append(int(entry.name))
    return found


def kill_all(root: str, victim: str) -> int:
    """SIGKILL for the node's processes of that role, or for all of them (`node`), this one last. Returns how many."""
    pids = processes_of(root, "" if victim == "node" else victim)
    for pid in sorted(pids, key=lambda pid: pid == os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(pids)


def stop(root: str) -> int:
    """SIGTERM for the daemon, as systemd stops the service. Returns how many there were."""
    pids = processes_of(root, "daemon")
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    return len(pids)
