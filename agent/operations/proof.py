"""What was proven of a snapshot's file on this node, and the manifest that comes of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.domain import cluster, snapshot
from agent.domain.request import format_moment
from agent.domain.snapshot import Check, Manifest, StoredData
from agent.errors import AgentError, EtcdError, SnapshotInvalid
from agent.logs import emit
from agent.operations import inspection
from agent.operations.source import Source
from agent.operations.steps import Job
from agent.ports import Etcd, SnapshotFile, SnapshotTool

FIRST_REVISION = 1  # of an etcd that nobody wrote to; its file holds no revision at all
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verified:
    """A snapshot file that passed every check that can be made on this node."""

    raw: inspection.RawFile
    content: SnapshotFile
    checks: tuple[Check, ...]


def verify(
    path: Path, tool: SnapshotTool, source: Source, read_raw: Callable[[], inspection.RawFile | None],
    *, emergency: bool,
) -> Verified:  # fmt: skip
    """Trailer, structure and freshness of the file. Raises SnapshotInvalid.

    The structure is read while the sender is still on its way to the file's end, where it knows the trailer.
    """
    try:
        content = tool.status(path)
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
            hint=f"the member at {source.status.endpoint} is behind or cut off: `etcd-agent status`",
        )
    fresh = Check("fresh", "skipped" if emergency else "passed", _now(), source.note)
    checks = (Check("trailer", "passed", trailer_at), Check("structure", "passed", structure_at, tool.describe()))
    emit(
        log, logging.INFO, "snapshot.verified", f"trailer and structure are right at revision {content.revision}",
        revision=content.revision, raw_size_bytes=raw.size_bytes, raw_sha256=raw.sha256, total_key=content.total_key,
    )  # fmt: skip
    return Verified(raw, content, (*checks, fresh))


def counted(etcd: Etcd | None, manifest: Manifest) -> Manifest:
    """With the number of live keys, where there is an etcd to ask and it tells."""
    if etcd is None:
        return manifest
    try:
        return msgspec.structs.replace(manifest, live_keys=etcd.count_keys(manifest.revision))
    except EtcdError as error:
        emit(log, logging.WARNING, "snapshot.keys_not_counted", f"the live keys were not counted: {error}")
        return manifest


def draft(job: Job, tool: SnapshotTool, source: Source, verified: Verified, started_at: str) -> Manifest:
    """The manifest but for the live keys, and for class, object and the level `stored`, which come with the store."""
    request, status = job.request, source.status
    return Manifest(
        snapshot_id=snapshot.snapshot_id(request.requested_at, request.op_id),
        retention_class="hourly",
        cluster=job.cluster,
        etcd_cluster_id=cluster.hex_id(status.cluster_id),
        member_id=cluster.hex_id(status.member_id),
        node=job.node,
        instance_id=job.instance_id,
        etcd_version=status.version,
        tool=tool.describe(),
        revision=verified.content.revision,
        hash=verified.content.hash,
        total_key=verified.content.total_key,
        live_keys=None,
        raw_size_bytes=verified.raw.size_bytes,
        raw_sha256=verified.raw.sha256,
        data=StoredData("", 0, ""),
        checks=verified.checks,
        fingerprints=dict(job.fingerprints),
        requested_at=request.requested_at,
        started_at=started_at,
        finished_at=_now(),
        trace_id=request.trace_id,
        op_id=request.op_id,
        agent_version=job.agent_version,
        member_name=source.name,
        member_endpoint=status.endpoint,
    )


def _now() -> str:
    return format_moment(datetime.now(UTC))
