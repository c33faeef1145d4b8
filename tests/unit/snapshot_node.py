"""A node that takes snapshots, with its outside made of fakes."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.adapters.outbox import OutboxFolder
from agent.domain import request as requests
from agent.domain import snapshot as snapshots
from agent.domain.outbox import Bounds
from agent.errors import (
    Refused,
)
from agent.operations import catalogue, leftovers, snapshot
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from tests.unit.fakes import (
    FakeEtcd,
    FakeStore,
    FakeTool,
    no_door,
)

OP_ID = "snapshot-0123456789abcdef"
REQUESTED_AT = "2026-01-31T12:00:00Z"


@dataclass
class Node:
    """A node with its outside made of fakes; `run` takes one attempt at an operation."""

    work: Path
    name: str = "node-1"
    etcd: FakeEtcd = field(default_factory=FakeEtcd)
    tool: FakeTool = field(default_factory=FakeTool)
    store: FakeStore = field(default_factory=FakeStore)
    others: dict[str, FakeEtcd] = field(default_factory=dict)
    only_local: bool = False
    free_bytes: int = 10**9
    time_left_s: Callable[[], float] = lambda: 60.0
    steps: Steps = field(default_factory=lambda: Steps(lambda progress: None))
    upload_limit_bytes_per_s: int = 0

    @property
    def ports(self) -> SnapshotPorts:
        at = None if self.only_local else (lambda url: self.others.get(url) or no_door(url))
        return SnapshotPorts(
            self.etcd, self.tool, self.store, lambda folder: self.free_bytes, self.outbox, at=at,
            upload_limit_bytes_per_s=self.upload_limit_bytes_per_s,
        )  # fmt: skip

    @property
    def outbox(self) -> OutboxFolder:
        return OutboxFolder(self.work.with_name(f"{self.work.name}-outbox"), Bounds(8, 10**9))

    def job(self, attempt: int = 1, **changes: Any) -> Job:
        fields = {
            "op_id": OP_ID, "operation": "snapshot", "trace_id": "4" * 32, "requested_at": REQUESTED_AT,
        } | changes  # fmt: skip
        job = Job(
            request=requests.make(**fields), attempt=attempt, work_root=self.work, cluster="prod", node=self.name,
            instance_id="i-0123456789abcdef0", agent_version="1.0", fingerprints={"etcd_ca": "5" * 64},
            time_left_s=self.time_left_s, hold=lambda op_id: contextlib.nullcontext(True),
        )  # fmt: skip
        job.folder.mkdir(parents=True, exist_ok=True)
        return job

    def run(self, attempt: int = 1, **changes: Any) -> dict[str, Any]:
        """As a worker does it: whatever happens, the attempt's folder is given up at the end."""
        job = self.job(attempt, **changes)
        self.steps = Steps(lambda progress: None)
        try:
            with trace.bound(trace_id=job.request.trace_id, op_id=job.request.op_id):
                return snapshot.run(job, self.ports, self.steps)
        finally:
            leftovers.remove_attempt(job.folder)

    def manifests(self) -> list[snapshots.Manifest]:
        return [backup.manifest for backup in catalogue.backups(self.store, "prod")]


def refused(node: Node, rule: str, **changes: Any) -> Refused:
    before = set(node.store.objects)
    with pytest.raises(Refused) as caught:
        node.run(**changes)
    assert set(node.store.objects) == before  # not even a word on its class
    assert caught.value.rule == rule
    assert caught.value.hint
    assert nothing_is_left(node)
    return caught.value


def nothing_is_left(node: Node) -> bool:
    return not kept(node) and not node.store.uploads and not list(node.work.iterdir())


def kept(node: Node) -> set[str]:
    """What is in the store but for the words by which nodes agree."""
    return {key for key in node.store.objects if not key.startswith("coordination/")}
