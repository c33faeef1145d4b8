"""Taking a snapshot: preflight, save, verify, store, and last the manifest that makes it a backup."""

import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.domain import cluster, snapshot
from agent.domain.cluster import EndpointStatus, Finding, Member
from agent.domain.request import format_moment
from agent.domain.snapshot import Check, Manifest, RetentionClass, StoredData
from agent.errors import AgentError, CommandTimeout, EtcdError, KeyTaken, NoSpace, Refused, SnapshotInvalid
from agent.logs import emit
from agent.operations import catalogue, compression, inspection, leftovers
from agent.operations.steps import Job, Steps
from agent.ports import Etcd, SnapshotFile, SnapshotTool, Store, StoredObject

MOST_KEYS = 3
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
class Source:
    """The member that the snapshot is taken from, and the revision it must at least hold."""

    status: EndpointStatus
    least_revision: int
    note: str


@dataclass(frozen=True)
class Verified:
    """A snapshot file that passed every check that can be made on this node."""

    path: Path
    raw: inspection.RawFile
    content: SnapshotFile
    live_keys: int | None
    checks: tuple[Check, ...]


def run(job: Job, ports: SnapshotPorts, steps: Steps) -> dict[str, Any]:
    """Takes one snapshot; again with the same request it finds what is there already. Returns the result's output."""
    emergency = job.request.params.get("emergency") == "true"
    started_at = _now()
    leftovers.remove_files(job.work_root, job.folder)
    with steps.step("preflight"):
        source = preflight(job, ports, emergency=emergency)
    path = job.folder / "snapshot.db"
    with steps.step("save"):
        size = source.status.db_size_bytes
        ports.etcd.save_snapshot(
            path, timeout_s=job.require_time(), on_bytes=lambda done_bytes: steps.progress(done_bytes, size)
        )
    with steps.step("verify"):
        verified = verify(path, ports, source, emergency=emergency)
    with steps.step("store"):
        existing, retention_class = place(job, ports.store, emergency=emergency)
        if existing is not None:
            return _output(existing, ports.store, already=True)
        stored = store(job, ports.store, verified, retention_class, steps)
    with steps.step("manifest"):
        manifest = _manifest(job, ports, source, verified, stored, retention_class, started_at)
        return commit(job, ports.store, manifest)


def preflight(job: Job, ports: SnapshotPorts, *, emergency: bool) -> Source:
    """Whether this member may be the source now. Raises Refused, NoSpace, EtcdError."""
    etcd = ports.etcd
    status, confirmed = etcd.status(), etcd.status()
    needed, free = cluster.needed_disk_bytes(status.db_size_bytes), ports.free_bytes(job.folder)
    if free < needed:
        raise NoSpace(
            f"{job.folder} has {free:,} bytes free; a snapshot of {status.db_size_bytes:,} bytes needs {needed:,}",
            hint="make room on that disk before etcd itself feels it",
        )
    _refuse_first(cluster.endpoint_findings(status, confirmed))
    if emergency:
        return Source(status, 0, "emergency")
    _refuse_first(cluster.leader_findings(status))
    members = etcd.members()
    _refuse_first(cluster.cluster_findings(status, members, etcd.alarms()))
    least_revision, note = _confirmed_revision(etcd, status, members)
    etcd.linearizable_revision()  # brings the local member up to what was read through the other one
    return Source(status, least_revision, note)


def verify(path: Path, ports: SnapshotPorts, source: Source, *, emergency: bool) -> Verified:
    """Trailer, structure and freshness of the file. Raises SnapshotInvalid."""
    raw = inspection.check_trailer(path)
    trailer_at = _now()
    content = ports.tool.status(path)
    structure_at = _now()
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
    return Verified(path, raw, content, live_keys, (*checks, fresh))


def place(job: Job, store: Store, *, emergency: bool) -> tuple[Manifest | None, RetentionClass]:
    """The manifest that an earlier attempt or another node wrote for this request, else the class to store under."""
    leftovers.abandon_uploads(job.work_root, job.folder, store)
    existing = catalogue.find(store, job.cluster, snapshot.snapshot_id(job.request.requested_at, job.request.op_id))
    if existing is not None:
        return existing.manifest, existing.manifest.retention_class
    monthlies = [] if emergency else catalogue.backups(store, job.cluster, ["monthly"], damaged=[])
    return None, snapshot.choose_class(monthlies, job.request.requested_at, emergency=emergency)


def store(job: Job, target: Store, verified: Verified, retention_class: RetentionClass, steps: Steps) -> StoredObject:
    """Compresses and stores the file under a fresh key; a key that is taken is left alone and another one used."""
    identifier = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    metadata = {"trace-id": job.request.trace_id, "op-id": job.request.op_id, "cluster": job.cluster}
    total_bytes = verified.raw.size_bytes
    for left in reversed(range(MOST_KEYS)):
        job.require_time()
        key = snapshot.data_key(retention_class, job.cluster, identifier, secrets.token_hex(4))
        chunks = compression.compressed(verified.path, lambda done: steps.progress(done, total_bytes))
        try:
            stored = target.put(key, chunks, metadata=metadata, journal=leftovers.Journal(job.folder))
        except KeyTaken as error:
            if not left:
                raise
            emit(log, logging.WARNING, "snapshot.key_taken", f"{error}; trying another key", key=key)
            continue
        emit(
            log, logging.INFO, "snapshot.uploaded", f"{stored.size_bytes:,} bytes as {key} in {target.describe()}",
            key=key, size_bytes=stored.size_bytes, sha256=stored.sha256, stored=stored.stored,
        )  # fmt: skip
        return stored
    raise AssertionError("the last key either worked or raised")


def commit(job: Job, target: Store, manifest: Manifest) -> dict[str, Any]:
    """Writes the manifest under the condition that none is there; then, and only then, is it a backup."""
    key = snapshot.manifest_key(manifest.retention_class, job.cluster, manifest.snapshot_id)
    metadata = {"trace-id": manifest.trace_id, "op-id": manifest.op_id, "cluster": manifest.cluster}
    try:
        written = target.put_if_absent(key, snapshot.encode(manifest), metadata=metadata)
    except BaseException:
        _withdraw(target, key, manifest)
        raise
    if not written:
        other = snapshot.decode_manifest(target.read(key), key)
        emit(log, logging.WARNING, "manifest.exists", f"another node committed {other.snapshot_id} first", key=key)
        target.abandon(manifest.data.key, "")
        return _output(other, target, already=True)
    emit(log, logging.INFO, "manifest.written", f"{manifest.snapshot_id} is a backup now", key=key)
    return _output(manifest, target, already=False)


def _withdraw(target: Store, key: str, manifest: Manifest) -> None:
    """Gives the data up when its manifest is certainly not there; when in doubt it stays."""
    with contextlib.suppress(AgentError):
        if key not in target.keys(snapshot.manifest_folder(manifest.retention_class, manifest.cluster)):
            target.abandon(manifest.data.key, "")


def _confirmed_revision(etcd: Etcd, status: EndpointStatus, members: Sequence[Member]) -> tuple[int, str]:
    voters = cluster.other_voters(members, status.member_id)
    if not voters:
        return etcd.linearizable_revision(), "sole_voter"
    problems = []
    for member in voters:
        for url in member.client_urls:
            try:
                revision = etcd.linearizable_revision(url, member_id=member.member_id)
                return revision, f"confirmed by {member.name}"
            except (EtcdError, CommandTimeout) as error:
                problems.append(f"{member.name}: {error}")
    raise Refused(
        f"none of the {len(voters)} other voters confirms this member's data: {'; '.join(problems)}",
        rule="no-other-voter",
        hint="repair a second member; to keep what this one holds anyway: `etcd-agent snapshot create --emergency`",
    )


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


def _output(manifest: Manifest, target: Store, *, already: bool) -> dict[str, Any]:
    return {
        "snapshot_id": manifest.snapshot_id,
        "retention_class": manifest.retention_class,
        "store": target.describe(),
        "key": manifest.data.key,
        "revision": manifest.revision,
        "raw_size_bytes": manifest.raw_size_bytes,
        "size_bytes": manifest.data.size_bytes,
        "checks": {check.level: check.outcome for check in manifest.checks},
        "stored": True,
        "already": already,
    }


def _refuse_first(findings: list[Finding]) -> None:
    for finding in findings:
        raise Refused(finding.message, rule=finding.rule, hint=finding.hint)


def _now() -> str:
    return format_moment(datetime.now(UTC))
