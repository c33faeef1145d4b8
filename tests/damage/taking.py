"""Two snapshots of a small real etcd, one a little older than the other."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.etcd_versions import servers

VERSION = "3.5"
KEYS = 30


@dataclass(frozen=True)
class Taken:
    """The bytes as etcdctl wrote them, and where the tools of that version are."""

    raw: bytes
    older: bytes
    tools: Path


def take(folder: Path, tools: Path) -> Taken:
    """Starts etcd, writes keys that look like a small Kubernetes, takes the snapshots, and ends it."""
    with servers.running(VERSION, tools, folder, size=1) as server:
        write = _writer(server.put)
        write(KEYS)
        older = _save(server, folder / "older.db")
        write(KEYS)
        return Taken(_save(server, folder / "newer.db"), older, tools)


def _writer(put: Callable[[str, str], int]) -> Callable[[int], None]:
    rng = random.Random(1)

    def write(count: int) -> None:
        for _ in range(count):
            put(f"/registry/pods/default/pod-{rng.randrange(KEYS)}", rng.randbytes(60).hex())

    return write


def _save(server: servers.Servers, path: Path) -> bytes:
    server.client.save_snapshot(path, timeout_s=30, on_bytes=lambda count: None)
    return path.read_bytes()
