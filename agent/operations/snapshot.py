"""Taking a snapshot: preflight, save, verify, store, and last the manifest that makes it a backup.

What the store does not take is kept on the node: a backup that waits is better than none.
"""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from agent.domain import cluster, snapshot
from agent.domain.request import format_moment
from agent.domain.snapshot import Manifest
from agent.errors import (
    AgentError,
    AwsRefused,
    AwsUnavailable,
    FileUnusable,
    NoSpace,
    Refused,
    StoreError,
    UploadLimitTooLow,
)
from agent.operations import committing, inspection, leftovers, outbox, proof
from agent.operations import source as sources
from agent.operations.compression import LEAST_EFFORT, Effort
from agent.operations.following import Following
from agent.operations.pacing import Pace
from agent.operations.room import Disks, Room
from agent.operations.sending import Sending, sent
from agent.operations.source import At, Source
from agent.operations.steps import Job, Steps
from agent.ports import Etcd, Outbox, SnapshotTool, Store

PLACE_WAIT_S = 5.0
STORE_TROUBLE = (StoreError, AwsRefused, AwsUnavailable, NoSpace, FileUnusable, UploadLimitTooLow)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotPorts:
    """What taking and verifying snapshots needs of the outside; `free_bytes` tells the room in a folder.

    `effort` is what compressing may cost, `upload_limit_bytes_per_s` what the link may be used for; 0 is no limit.
    `etcd` is the local member, `at` the door to the member at a URL; None where only the local one is to be read.
    """

    etcd: Etcd
    tool: SnapshotTool
    store: Store
    free_bytes: Callable[[Path], int]
    outbox: Outbox
    effort: Effort = LEAST_EFFORT
    at: At | None = None
    disks: Disks | None = None
    upload_limit_bytes_per_s: int = 0

    @property
    def room(self) -> Room:
        """What may be written on this node's disks."""
        return Room(self.free_bytes, self.outbox, self.disks)


class _SourceLostError(Exception):
    """A member of another node was to send the snapshot and did not; another member may."""

    def __init__(self, source: Source, why: AgentError) -> None:
        super().__init__(why.message)
        self.source, self.why = source, why


def run(job: Job, ports: SnapshotPorts, steps: Steps) -> dict[str, Any]:
    """Takes one snapshot; again with the same request it finds what is there already. Returns the result's output."""
    started_at = _now()
    leftovers.remove_files(job.work_root, job.folder, job.hold)
    outbox.sweep(ports.outbox)
    lost: dict[int, AgentError] = {}
    while True:
        try:
            return _taken(job, ports, steps, started_at, avoid=lost.keys())
        except Refused:
            for first in lost.values():  # why nobody is left says more than that nobody is
                raise first from None
            raise
        except _SourceLostError as error:
            lost[error.source.status.member_id] = error.why
            sources.not_taken(error.source.status.member_id, error.source.name, error.why.message)


def _taken(job: Job, ports: SnapshotPorts, steps: Steps, started_at: str, avoid: AbstractSet[int]) -> dict[str, Any]:
    """One snapshot of one member. Raises _SourceLostError where another one may do."""
    emergency = job.request.params.get("emergency") == "true"
    path = job.folder / "snapshot.db"
    following = Following(path)
    pace = Pace(ports.upload_limit_bytes_per_s)
    with sent(job, ports.store, following, emergency=emergency, effort=ports.effort, pace=pace) as sending:
        with steps.step("preflight"):
            source = sources.find(ports.etcd, emergency=emergency, at=ports.at, avoid=avoid)
            require_room(job, ports, source, may_drop=True)
        sending.expected_bytes = size_bytes = source.status.db_size_bytes

        def show(done_bytes: int) -> None:
            steps.progress(done_bytes, size_bytes, sending.packed)

        following.begins()
        if (answer := _already(job, ports, sending)) is not None:
            return answer
        try:
            with steps.step("save"):
                _save(job, source, path, show)
        except sources.SOURCE_TROUBLE as error:
            if source.is_local:
                raise
            raise _SourceLostError(source, error) from error
        following.written()
        with steps.step("verify"):
            verified = proof.verify(path, ports.tool, source, lambda: sending.raw(show), emergency=emergency)
            job.require_time()
        draft = proof.draft(job, ports.tool, source, verified, started_at)
        count = partial(proof.counted, None if emergency else source.door)
        try:
            return _stored(ports, following, sending, draft, steps, count, show)
        except STORE_TROUBLE as why:
            following.give_up()  # nothing of it may be completed any more once it is kept here
            with steps.step("keep"):
                draft = count(draft)
                kept = outbox.keep(
                    ports.outbox, path, draft, why, emergency=emergency, effort=ports.effort, guarded=ports.room.guarded
                )
            return outbox.answer(kept)


def require_room(job: Job, ports: SnapshotPorts, source: Source, *, may_drop: bool) -> None:
    """Raises NoSpace. With `may_drop` copies of the outbox may give way. No compression is counted on."""
    size_bytes = source.status.db_size_bytes
    ports.room.require(
        job.folder, cluster.needed_disk_bytes(size_bytes), f"a snapshot of {size_bytes:,} bytes",
        stored_bytes=size_bytes, may_drop=may_drop,
    )  # fmt: skip


def _save(job: Job, source: Source, path: Path, show: Callable[[int], None]) -> None:
    """Another node's member gets half of the time: what is left is enough for this node's own, should it fail."""
    left_s = job.require_time()
    source.door.save_snapshot(path, timeout_s=left_s if source.is_local else left_s / 2, on_bytes=show)


def _already(job: Job, ports: SnapshotPorts, sending: Sending) -> dict[str, Any] | None:
    """What an earlier attempt or another node made of this request.

    A first attempt does not wait for the store to tell: what another node made of it is found before anything is sent.
    """
    existing = sending.existing(PLACE_WAIT_S if job.attempt > 1 else 0.0)
    if existing is not None:
        return committing.output_of(existing, ports.store, already=True)
    kept = ports.outbox.find(snapshot.snapshot_id(job.request.requested_at, job.request.op_id))
    return outbox.answer(outbox.output_of(kept, ports.outbox)) if kept is not None else None


def _stored(
    ports: SnapshotPorts, following: Following, sending: Sending, draft: Manifest, steps: Steps,
    count: Callable[[Manifest], Manifest], show: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Lets the sender complete what it sent, waits for it, and commits. Raises the store's errors.

    There is no return from the completion on: data without a manifest could not be taken back out of a bucket. All but
    the last parts are in the store by then, since a file is verified only when it has been read to its end.
    """
    with steps.step("store", no_return=True):
        following.verified(inspection.RawFile(draft.raw_size_bytes, draft.raw_sha256))
        draft = count(draft)  # while the store completes
        stored = sending.result(show)
    if isinstance(stored, Manifest):
        return committing.output_of(stored, ports.store, already=True)
    with steps.step("manifest"):
        return sending.commit(committing.completed(draft, stored, sending.retention_class))


def _now() -> str:
    return format_moment(datetime.now(UTC))
