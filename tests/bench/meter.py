"""What a piece of work cost: wall time, processor time, and the memory of every process that had a part in it."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOOLS = ("etcdctl", "etcdutl")


@dataclass
class Cost:
    """Seconds, and MB by program; `sum_mb` is the largest sum seen at one time, the tools of etcd apart."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)
    sum_mb: float = 0.0

    @property
    def own_peak_mb(self) -> float:
        """The largest single process that is no tool of etcd."""
        return max((mb for name, mb in self.peak_mb.items() if name not in TOOLS), default=0.0)


@contextmanager
def measured(home: Path, daemon: int | None = None) -> Iterator[Cost]:
    """Measures the block: of the processes that have this HOME, the daemon and its children among them."""
    cost, ended = Cost(), threading.Event()
    others = {pid for pid in _processes() if pid != daemon}

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            _look(cost, home, others)

    thread = threading.Thread(target=sample)
    before_s = _children_s() + _daemon_s(daemon)
    thread.start()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost.wall_s = time.perf_counter() - started
        ended.set()
        thread.join()
        cost.cpu_s = _children_s() + _daemon_s(daemon) - before_s


def _look(cost: Cost, home: Path, others: set[int]) -> None:
    mark, together_mb = f"HOME={home}".encode(), 0.0
    for pid in _processes():
        if pid in others:
            continue
        try:
            if mark not in Path("/proc", str(pid), "environ").read_bytes().split(b"\0"):
                continue
            name, now_mb, peak_mb = _memory(pid)
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


def _daemon_s(pid: int | None) -> float:
    """Of the daemon and of the workers that it has waited for."""
    if pid is None:
        return 0.0
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / TICKS_PER_S
