"""How long puts take while something else is at work."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.processes import Processes, wait_until


class Writer:
    """A steady writer in a process of its own, and the times of its puts."""

    def __init__(self, processes: Processes, member: EtcdMember, folder: Path) -> None:
        told = {name: getattr(member, name) for name in ("name", "address", "client_port", "peer_port")}
        told["certificate"] = {name: str(path) for name, path in asdict(member.certificate).items()}
        self._file = folder / "puts"
        argv = [sys.executable, "-m", "tests.bench.put_writer", json.dumps(told), str(self._file)]
        child = processes.start("put-writer", argv)
        wait_until(lambda: self._file.exists() and bool(self._file.read_text()), "no put is done", child=child)

    @contextmanager
    def window(self) -> Iterator[list[float]]:
        """The seconds that each put took which began while the block ran; there when it ends."""
        puts_s: list[float] = []
        offset = self._file.stat().st_size
        started = time.monotonic()
        yield puts_s
        ended = time.monotonic()
        wait_until(lambda: self._last_start() > ended, "the writer is stuck")
        for line in self._file.read_bytes()[offset:].decode().splitlines()[1:]:
            at_s, took_s = line.split()
            if started <= float(at_s) <= ended:
                puts_s.append(float(took_s))

    def _last_start(self) -> float:
        lines = self._file.read_text().splitlines()
        return float(lines[-1].split()[0]) if lines[-1].count(" ") == 1 else 0.0
