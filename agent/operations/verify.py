"""Verifying what a store holds: download, checksums, trailer, structure; the outcome is a record of its own."""

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.domain import snapshot
from agent.domain.request import format_moment
from agent.domain.snapshot import Backup, Check, Manifest, Verification
from agent.errors import NoSpace, SnapshotInvalid, SnapshotNotFound, StoreError
from agent.logs import emit
from agent.operations import catalogue, compression, inspection, leftovers
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps

MOST_IN_A_SECOND = 20
log = logging.getLogger(__name__)


def run(job: Job, ports: SnapshotPorts, steps: Steps) -> dict[str, Any]:
    """Verifies one backup, the latest good one, or all. Raises SnapshotInvalid when one is damaged."""
    leftovers.remove_files(job.work_root, job.folder, job.hold)
    wanted = job.request.params["id"]
    unreadable: list[SnapshotInvalid] = []
    with steps.step("find"):
        chosen = (
            catalogue.backups(ports.store, job.cluster, damaged=unreadable)
            if wanted == "all"
            else [catalogue.resolve(ports.store, job.cluster, wanted)]
        )
    verified = [_verify_one(job, ports, steps, backup) for backup in chosen]
    damaged = [f"{record.snapshot_id}: {record.message}" for record in verified if not record.passed]
    damaged += [error.message for error in unreadable]
    if damaged:
        raise SnapshotInvalid(
            f"{len(damaged)} of {len(verified) + len(unreadable)} snapshots are damaged: {'; '.join(damaged)}",
            hint="they are no longer counted as good; take a new snapshot now: `etcd-agent snapshot create`",
        )
    return {"verified": [_row(record) for record in verified], "store": ports.store.describe()}


def _verify_one(job: Job, ports: SnapshotPorts, steps: Steps, backup: Backup) -> Verification:
    manifest = backup.manifest
    path = job.folder / f"{manifest.snapshot_id}.db"
    moment = datetime.now(UTC)
    try:
        with steps.step("download"):
            job.require_time()
            _require_room(job, ports, manifest)
            _download(ports, manifest, path, steps)
        with steps.step("verify"):
            _compare(ports, manifest, path)
        message = ""
    except (SnapshotInvalid, SnapshotNotFound) as error:
        message = error.message
    finally:
        path.unlink(missing_ok=True)
    outcome = Check("structure", "failed" if message else "passed", format_moment(moment), ports.tool.describe())
    record = Verification(
        snapshot_id=manifest.snapshot_id, level="structure", checks=(outcome,), checked_at=format_moment(moment),
        node=job.node, trace_id=job.request.trace_id, op_id=job.request.op_id, message=message,
    )  # fmt: skip
    with steps.step("record"):
        _record(ports, manifest, record, moment)
    return record


def _require_room(job: Job, ports: SnapshotPorts, manifest: Manifest) -> None:
    free = ports.free_bytes(job.folder)
    if free < manifest.raw_size_bytes:
        raise NoSpace(
            f"{job.folder} has {free:,} bytes free, {manifest.snapshot_id} needs {manifest.raw_size_bytes:,}",
            hint="make room on that disk, or verify on another node",
        )


def _download(ports: SnapshotPorts, manifest: Manifest, path: Path, steps: Steps) -> None:
    digest = hashlib.sha256()
    written_bytes = 0

    def hashed(chunks: Any) -> Any:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    with ports.store.open(manifest.data.key, manifest.data.version_id) as chunks, path.open("wb") as target:
        for raw in compression.decompressed(hashed(chunks)):
            written_bytes += len(raw)
            if written_bytes > manifest.raw_size_bytes:
                raise SnapshotInvalid(f"it unpacks to more than the {manifest.raw_size_bytes} bytes of its manifest")
            target.write(raw)
            steps.progress(written_bytes, manifest.raw_size_bytes)
    if digest.hexdigest() != manifest.data.sha256:
        raise SnapshotInvalid(f"the stored bytes have the sha256 {digest.hexdigest()}, not {manifest.data.sha256}")


def _compare(ports: SnapshotPorts, manifest: Manifest, path: Path) -> None:
    raw = inspection.check_trailer(path)
    if (raw.sha256, raw.size_bytes) != (manifest.raw_sha256, manifest.raw_size_bytes):
        raise SnapshotInvalid(f"the raw bytes have the sha256 {raw.sha256}, not {manifest.raw_sha256}")
    content = ports.tool.status(path)
    if content.revision != manifest.revision:
        raise SnapshotInvalid(f"it holds revision {content.revision}, its manifest says {manifest.revision}")


def _record(ports: SnapshotPorts, manifest: Manifest, record: Verification, moment: datetime) -> None:
    """Another node's record of the same second must not hide ours, which may say the opposite."""
    metadata = {"trace-id": record.trace_id, "op-id": record.op_id, "cluster": manifest.cluster}
    content = snapshot.encode(record)
    moments = (moment + timedelta(seconds=later) for later in range(MOST_IN_A_SECOND))
    keys = (snapshot.verification_key(manifest, record.level, one) for one in moments)
    if not any(ports.store.put_if_absent(key, content, metadata=metadata) for key in keys):
        raise StoreError(f"the outcome for {record.snapshot_id} can not be recorded: every name for it is taken")
    level = logging.INFO if record.passed else logging.ERROR
    emit(
        log, level, "snapshot.checked", f"{record.snapshot_id}: {record.message or 'restorable bytes'}",
        snapshot_id=record.snapshot_id, passed=record.passed,
    )  # fmt: skip


def _row(record: Verification) -> dict[str, Any]:
    return {"snapshot_id": record.snapshot_id, "passed": record.passed, "checked_at": record.checked_at}
