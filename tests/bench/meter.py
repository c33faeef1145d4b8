"""What a piece of work cost: wall time, processor time, and the memory of every process that had a part in it."""

import os
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOOLS = ("etcdctl", "etcdutl")


@dataclass
class Cost:
    """Seconds, and MB by program; `sum_mb` is the largest sum seen at one time, the tools of etcd apart.

    `cpu_by_program_s` tells where the processors' time went, of servers too, which are not in `cpu_s`. A process is
    looked at while it runs, so its last moments are missing.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    cpu_by_program_s: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    sum_mb: float = 0.0

    @property
    def own_peak_mb(self) -> float:
        """The largest single process that is no tool of etcd."""
        return max((mb for name, mb in self.peak_mb.items() if name not in TOOLS), default=0.0)


@contextmanager
def measured(home: Path, servers: Mapping[str, Sequence[int]], daemon: int | None = None) -> Iterator[Cost]:
    """Measures the block: of the processes that have this HOME, the daemon and its children among them.

    `servers` are the process ids of what else works for it, by program.
    """
    cost, ended = Cost(), threading.Event()
    others = {pid for pid in _processes() if pid != daemon}
    used_s: dict[int, tuple[str, float]] = {}

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            _look(cost, home, others, used_s)

    thread = threading.Thread(target=sample)
    before_s = _children_s() + _daemon_s(daemon)
    own_before_s = _own_s(daemon) if daemon else 0.0
    servers_before_s = _servers_s(servers)
    thread.start()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost.wall_s = time.perf_counter() - started
        ended.set()
        thread.join()
        cost.cpu_s = _children_s() + _daemon_s(daemon) - before_s
        for name, seconds in used_s.values():
            cost.cpu_by_program_s[name] = cost.cpu_by_program_s.get(name, 0.0) + seconds
        if daemon in used_s:
            cost.cpu_by_program_s[used_s[daemon][0]] -= own_before_s
        for name, seconds in _servers_s(servers).items():
            cost.cpu_by_program_s[f"{name} (server)"] = seconds - servers_before_s[name]


def _look(cost: Cost, home: Path, others: set[int], used_s: dict[int, tuple[str, float]]) -> None:
    mark, together_mb = f"HOME={home}".encode(), 0.0
    for pid in _processes():
        if pid in others:
            continue
        try:
            if mark not in Path("/proc", str(pid), "environ").read_bytes().split(b"\0"):
                continue
            name, now_mb, peak_mb = _memory(pid)
            used_s[pid] = name, _own_s(pid)
        except (OSError, KeyError):
            continue  # it ended meanwhile
        cost.peak_mb[name] = max(cost.peak_mb.get(name, 0.0), peak_mb)
        together_mb += 0.0 if name in TOOLS else now_mb
    cost.sum_mb = max(cost.sum_mb, together_mb)


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def _memory(pid: int) -> tuple[str, float, float]:
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return fields["Name"].strip(), int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _servers_s(servers: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {name: sum(_own_s(pid) for pid in pids) for name, pids in servers.items()}


def _own_s(pid: int) -> float:
    """Of the process alone, not of the children that it has waited for."""
    return sum(_times(pid)[:2]) / TICKS_PER_S


def _daemon_s(pid: int | None) -> float:
    """Of the daemon and of the workers that it has waited for."""
    if pid is None:
        return 0.0
    return sum(_times(pid)) / TICKS_PER_S


def _times(pid: int) -> list[int]:
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return [int(value) for value in fields[11:15]]
