"""Storing a verified snapshot and making it a backup: which class, the data, and last the manifest."""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.domain import arrival, retention, snapshot
from agent.domain.request import format_moment, parse_moment
from agent.domain.snapshot import Check, Manifest, RetentionClass, StoredData, Verification
from agent.errors import AgentError, KeyTaken, SnapshotInvalid, StoreError
from agent.logs import emit
from agent.operations import catalogue, leftovers, records
from agent.operations.steps import Job
from agent.ports import Store, StoredObject

MOST_KEYS = 3
ALTERED_HINT = "something between this node and the store alters data: check proxies and the store itself"
log = logging.getLogger(__name__)


def place(
    job: Job, store: Store, *, emergency: bool, before_writing: Callable[[], None] = lambda: None
) -> tuple[Manifest | None, RetentionClass]:
    """The manifest that an earlier attempt or another node wrote for this request, else the class to store under.

    `before_writing` is called when all is read, and may wait or raise.
    """
    leftovers.abandon_uploads(job.work_root, job.folder, store, job.hold)
    identifier = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    existing = catalogue.find(store, job.cluster, identifier)
    if existing is not None:
        return existing.manifest, existing.manifest.retention_class
    wanted: RetentionClass = "emergency" if emergency else wanted_class(job, store, damaged=[])
    before_writing()
    return None, wanted if emergency else _agreed(job, store, wanted)


def wanted_class(job: Job, store: Store, *, damaged: list[SnapshotInvalid]) -> RetentionClass:
    """The class by the calendar, if this node alone had to say."""
    now = parse_moment(job.request.requested_at)

    def is_near(identifier: str) -> bool:
        return abs(snapshot.moment_of_id(identifier) - now) < retention.MONTHLY_AGE

    near = catalogue.backups(store, job.cluster, retention.SLOT_CLASSES, wanted=is_near, damaged=damaged)
    return retention.choose_class(near, job.request.requested_at)


def _agreed(job: Job, store: Store, wanted: RetentionClass) -> RetentionClass:
    """The class that whoever runs this operation stores under: the first one's choice.

    Two nodes at the same operation may find different monthlies. A manifest each, in two classes, would be two
    backups of one operation, and no node could take its own back.
    """
    key = snapshot.class_key(job.cluster, snapshot.snapshot_id(job.request.requested_at, job.request.op_id))
    metadata = {"trace-id": job.request.trace_id, "op-id": job.request.op_id, "cluster": job.cluster}
    if store.put_if_absent(key, wanted.encode(), metadata=metadata):
        return wanted
    return snapshot.decode_class(store.read(key), key)


def send(
    job: Job, target: Store, make_chunks: Callable[[], Iterable[bytes]], retention_class: RetentionClass,
    before_commit: Callable[[], None] = lambda: None, try8: str = "",
) -> StoredObject:  # fmt: skip
    """Stores under a fresh key; a key that is taken is left alone and another one used.

    `try8` names the first one: 8 hex digits that stay the same wherever the same bytes are sent again.
    """
    identifier = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    metadata = {"trace-id": job.request.trace_id, "op-id": job.request.op_id, "cluster": job.cluster}
    for left in reversed(range(MOST_KEYS)):
        job.require_time()
        key = snapshot.data_key(retention_class, job.cluster, identifier, try8 or secrets.token_hex(4))
        try8 = ""
        try:
            stored = target.put(
                key, make_chunks(), metadata=metadata, journal=leftovers.Journal(job.folder),
                before_commit=before_commit,
            )  # fmt: skip
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


def completed(draft: Manifest, stored: StoredObject, retention_class: RetentionClass) -> Manifest:
    """The manifest with what only the store can tell."""
    now = format_moment(datetime.now(UTC))
    return msgspec.structs.replace(
        draft, retention_class=retention_class,
        data=StoredData(stored.key, stored.size_bytes, stored.sha256, stored.version_id),
        checks=(*draft.checks, Check("stored", stored.stored, now)),
    )  # fmt: skip


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
        other = _committed_instead(job, target, key, manifest)
        emit(log, logging.WARNING, "manifest.exists", f"another node committed {other.snapshot_id} first", key=key)
        with contextlib.suppress(AgentError):  # without a manifest it is no backup, whether or not it is still there
            target.abandon(manifest.data.key, "")
        return output_of(other, target, already=True)
    emit(log, logging.INFO, "manifest.written", f"{manifest.snapshot_id} is a backup now", key=key)
    return output_of(manifest, target, already=False)


def _committed_instead(job: Job, target: Store, key: str, manifest: Manifest) -> Manifest:
    """The other node's manifest that lies there. Raises StoreError when it is ours, and not as it was sent."""
    content = target.read(key)
    try:
        other = snapshot.decode_manifest(content, key)
    except SnapshotInvalid as error:
        raise StoreError(f"what lies there is no manifest: {error.message}", hint=ALTERED_HINT) from error
    if not arrival.is_altered(other, manifest):
        return other
    with contextlib.suppress(AgentError):
        if target.read(key) == content:  # else it may have been altered on its way back alone
            _record_against(job, target, other)
    raise StoreError(f"the manifest at {key} says something else than the one that was sent", hint=ALTERED_HINT)


def _record_against(job: Job, target: Store, altered: Manifest) -> None:
    """Nobody can take it back, and without this it would be listed as good until somebody verifies it."""
    now = datetime.now(UTC)
    record = Verification(
        snapshot_id=altered.snapshot_id, level="structure", checks=(Check("stored", "failed", format_moment(now)),),
        checked_at=format_moment(now), node=job.node, trace_id=job.request.trace_id, op_id=job.request.op_id,
        message="its manifest is not the one that was sent",
    )  # fmt: skip
    records.write(target, altered, record, now)


def _withdraw(target: Store, key: str, manifest: Manifest) -> None:
    """Gives the data up when its manifest is certainly not there; when in doubt it stays."""
    with contextlib.suppress(AgentError):
        if key not in target.keys(snapshot.manifest_folder(manifest.retention_class, manifest.cluster)):
            target.abandon(manifest.data.key, "")


def output_of(manifest: Manifest, target: Store, *, already: bool) -> dict[str, Any]:
    """What the result of a snapshot says."""
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
