"""Taking a snapshot: preflight, save, verify, store, and last the manifest that makes it a backup."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.domain import cluster, snapshot
from agent.domain.request import format_moment
from agent.domain.snapshot import Check, Manifest, RetentionClass, StoredData
from agent.errors import AgentError, EtcdError, SnapshotInvalid
from agent.logs import emit
from agent.operations import committing, inspection, leftovers
from agent.operations import source as sources
from agent.operations.following import Following
from agent.operations.source import Source
from agent.operations.steps import Job, Steps
from agent.ports import Etcd, SnapshotFile, SnapshotTool, Store, StoredObject

FIRST_REVISION = 1  # of an etcd that nobody wrote to; its file holds no revision at all
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotPorts:
    """What taking and verifying snapshots needs of the outside; `free_bytes` tells the room in a folder."""

    etcd: Etcd
    tool: SnapshotTool
    store: Store
    free_bytes: Callable[[Path], int]


@dataclass(frozen=True)
class Verified:
    """A snapshot file that passed every check that can be made on this node."""

    raw: inspection.RawFile
    content: SnapshotFile
    live_keys: int | None
    checks: tuple[Check, ...]


def run(job: Job, ports: SnapshotPorts, steps: Steps) -> dict[str, Any]:
    """Takes one snapshot; again with the same request it finds what is there already. Returns the result's output."""
    emergency = job.request.params.get("emergency") == "true"
    started_at = _now()
    leftovers.remove_files(job.work_root, job.folder, job.hold)
    with steps.step("preflight"):
        source = sources.find(job, ports.etcd, ports.free_bytes, emergency=emergency)
        existing, retention_class = committing.place(job, ports.store, emergency=emergency)
        if existing is not None:
            return committing.output_of(existing, ports.store, already=True)
    path, size_bytes = job.folder / "snapshot.db", source.status.db_size_bytes
    following = Following(path)
    with committing.sending(job, ports.store, following, retention_class) as sending:
        with steps.step("save"):
            ports.etcd.save_snapshot(
                path, timeout_s=job.require_time(), on_bytes=lambda done_bytes: steps.progress(done_bytes, size_bytes)
            )
            following.written()
        with steps.step("verify"):
            verified = verify(path, ports, source, sending.raw, emergency=emergency)
            job.require_time()
            following.verified()
        with steps.step("store"):
            stored = sending.result(job, lambda done_bytes: steps.progress(done_bytes, verified.raw.size_bytes))
    with steps.step("manifest", no_return=True):
        manifest = _manifest(job, ports, source, verified, stored, retention_class, started_at)
        return committing.commit(job, ports.store, manifest)


def verify(
    path: Path, ports: SnapshotPorts, source: Source, read_raw: Callable[[], inspection.RawFile | None],
    *, emergency: bool,
) -> Verified:  # fmt: skip
    """Trailer, structure and freshness of the file. Raises SnapshotInvalid.

    The structure is read while the sender is still on its way to the file's end, where it knows the trailer.
    """
    try:
        content = ports.tool.status(path)
    except AgentError:
        inspection.check_trailer(path)  # where that is wrong too, it says more
        raise
    structure_at = _now()
    raw = read_raw() or inspection.check_trailer(path)
    trailer_at = _now()
    if max(content.revision, FIRST_REVISION) < source.least_revision:
        raise SnapshotInvalid(
            f"the snapshot ends at revision {content.revision}, before revision {source.least_revision} "
            "that another voter had already confirmed",
            hint="the member at the configured endpoint is behind or cut off: `etcd-agent status`",
        )
    fresh = Check("fresh", "skipped" if emergency else "passed", _now(), source.note)
    checks = (Check("trailer", "passed", trailer_at), Check("structure", "passed", structure_at, ports.tool.describe()))
    live_keys = None if emergency else _live_keys(ports.etcd, content.revision)
    emit(
        log, logging.INFO, "snapshot.verified", f"trailer and structure are right at revision {content.revision}",
        revision=content.revision, raw_size_bytes=raw.size_bytes, raw_sha256=raw.sha256, total_key=content.total_key,
    )  # fmt: skip
    return Verified(raw, content, live_keys, (*checks, fresh))


def _live_keys(etcd: Etcd, revision: int) -> int | None:
    try:
        return etcd.count_keys(revision)
    except EtcdError as error:
        emit(log, logging.WARNING, "snapshot.keys_not_counted", f"the live keys were not counted: {error}")
        return None


def _manifest(
    job: Job, ports: SnapshotPorts, source: Source, verified: Verified, stored: StoredObject,
    retention_class: RetentionClass, started_at: str,
) -> Manifest:  # fmt: skip
    request, status = job.request, source.status
    return Manifest(
        snapshot_id=snapshot.snapshot_id(request.requested_at, request.op_id),
        retention_class=retention_class,
        cluster=job.cluster,
        etcd_cluster_id=cluster.hex_id(status.cluster_id),
        member_id=cluster.hex_id(status.member_id),
        node=job.node,
        instance_id=job.instance_id,
        etcd_version=status.version,
        tool=ports.tool.describe(),
        revision=verified.content.revision,
        hash=verified.content.hash,
        total_key=verified.content.total_key,
        live_keys=verified.live_keys,
        raw_size_bytes=verified.raw.size_bytes,
        raw_sha256=verified.raw.sha256,
        data=StoredData(stored.key, stored.size_bytes, stored.sha256, stored.version_id),
        checks=(*verified.checks, Check("stored", stored.stored, _now())),
        fingerprints=dict(job.fingerprints),
        requested_at=request.requested_at,
        started_at=started_at,
        finished_at=_now(),
        trace_id=request.trace_id,
        op_id=request.op_id,
        agent_version=job.agent_version,
    )


def _now() -> str:
    return format_moment(datetime.now(UTC))
