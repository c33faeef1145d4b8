"""The outbox: what the store does not take now is kept on the node, and shipped when the store is back."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from agent import trace
from agent.domain import arrival
from agent.domain.outbox import Draft, Kept, overflow
from agent.domain.request import ErrorResult, format_moment
from agent.domain.snapshot import Manifest, RetentionClass, StoredData
from agent.errors import AgentError, SnapshotInvalid, StoreError, UploadLimitTooLow
from agent.logs import emit
from agent.operations import committing, compression, leftovers
from agent.operations.compression import LEAST_EFFORT, Effort
from agent.operations.pacing import Pace
from agent.operations.steps import Job, Steps
from agent.ports import Outbox, Store

CHUNK_BYTES = 1024 * 1024
USABLE_TIME = 0.9  # of what is left; the rest is for what is not the upload itself
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShipPorts:
    """What shipping needs: the store, the outbox, and how much may go to the store in a second (0: no limit)."""

    store: Store
    outbox: Outbox
    upload_limit_bytes_per_s: int = 0


def keep(
    box: Outbox, path: Path, manifest: Manifest, why: AgentError, *, emergency: bool, effort: Effort = LEAST_EFFORT,
    guarded: Callable[[Iterable[bytes]], Iterable[bytes]] = lambda chunks: chunks,
) -> dict[str, Any]:  # fmt: skip
    """Compresses the verified file into the outbox. Returns the result's output, whose `stored` is false.

    What is written passes `guarded`, which raises NoSpace where the disk must not take it. Raises OSError where this
    node has no room for it either, SnapshotInvalid when the file does not read back as it was verified.
    """
    identifier = manifest.snapshot_id
    with path.open("rb") as stream:
        size_bytes, sha256 = box.write(identifier, guarded(compression.compressed(_verified(stream, manifest), effort)))
    made = msgspec.structs.replace(manifest, data=StoredData("", size_bytes, sha256))
    kept_at, trouble = format_moment(datetime.now(UTC)), ErrorResult(why.code, why.message, why.hint, why.retryable)
    draft = Draft(made, emergency, kept_at, trouble)
    try:
        box.commit(identifier, draft)
    except OSError:
        box.remove(identifier)  # a disk that is full needs the room
        raise
    emit(
        log, logging.WARNING, "outbox.kept", f"{identifier} stays on this node until the store takes it: {why.message}",
        snapshot_id=identifier, size_bytes=size_bytes, error_code=why.code, error_message=why.message,
        error_hint=why.hint,
    )  # fmt: skip
    drop(box, overflow(box.kept(), box.bounds, identifier))
    return output_of(draft, box)


def _verified(stream: BinaryIO, manifest: Manifest) -> Iterator[bytes]:
    """The file once more. Raises SnapshotInvalid at its end unless these are the bytes that were verified."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != manifest.raw_sha256:
        raise SnapshotInvalid(
            "the snapshot does not read back as it was verified", hint="check memory and disks, then try again"
        )


def drop(box: Outbox, going: Iterable[Kept]) -> None:
    """Removes what has to make room, and tells of each. Raises OSError."""
    for one in going:
        box.remove(one.snapshot_id)
        emit(
            log, logging.ERROR, "outbox.dropped", f"{one.snapshot_id} had to make room and was never stored",
            snapshot_id=one.snapshot_id, size_bytes=one.size_bytes,
        )  # fmt: skip


def sweep(box: Outbox) -> None:
    """Removes what crashes left in the outbox; where that can not be done, it is told and nothing else."""
    try:
        box.sweep()
    except OSError as error:
        emit(log, logging.WARNING, "outbox.not_swept", f"what crashes left in the outbox stays for now: {error}")


def output_of(draft: Draft, box: Outbox) -> dict[str, Any]:
    """What the result of a snapshot says that is kept on the node."""
    manifest = draft.manifest
    return {
        "snapshot_id": manifest.snapshot_id,
        "kept": box.describe(manifest.snapshot_id),
        "why_not_stored": msgspec.to_builtins(draft.why),
        "revision": manifest.revision,
        "raw_size_bytes": manifest.raw_size_bytes,
        "size_bytes": manifest.data.size_bytes,
        "checks": {check.level: check.outcome for check in manifest.checks},
        "stored": False,
        "already": False,
    }


def answer(output: dict[str, Any]) -> dict[str, Any]:
    """What is kept is a success, since the store comes back; but a configuration that can not work is told as that.

    Raises UploadLimitTooLow. The snapshot stays in the outbox all the same.
    """
    why = output["why_not_stored"]
    if why["code"] == UploadLimitTooLow.code:
        raise UploadLimitTooLow(
            f"the snapshot is verified and kept as {output['kept']}, but the store does not get it: {why['message']}",
            hint=why["hint"],
        )
    return output


def run(job: Job, ports: ShipPorts, steps: Steps) -> dict[str, Any]:
    """Ships what is kept, the oldest first, until all is in the store. Raises the store's errors.

    A store that does not answer ends it. What lies damaged in the store under the name of one, can not be read on this
    node, or is too large for the limit, stops that one alone: it stays on the node, and is told at the end. What the
    limit leaves no time for after the others is shipped by the next operation.
    """
    shipped: list[str] = []
    blocked: list[SnapshotInvalid | UploadLimitTooLow | OSError] = []
    sweep(ports.outbox)
    pace, whole_s = Pace(ports.upload_limit_bytes_per_s), job.time_left_s() * USABLE_TIME
    for kept in ports.outbox.kept():
        if shipped and job.time_left_s() * USABLE_TIME < pace.needed_s(kept.size_bytes) <= whole_s:
            break
        try:
            with steps.step("ship"):
                job.require_time()
                pace.require_sent(kept.size_bytes, whole_s)
                if _ship(job, ports, kept, pace, steps):
                    shipped.append(kept.snapshot_id)
        except (SnapshotInvalid, UploadLimitTooLow, OSError) as error:
            blocked.append(error)
    if blocked:
        raise blocked[0]
    return {"shipped": shipped, "store": ports.store.describe()}


def _ship(job: Job, ports: ShipPorts, kept: Kept, pace: Pace, steps: Steps) -> bool:
    """Under the trace and op id of the request that it was taken for. Whether it is in the store now."""
    draft = kept.draft
    if draft is None:
        return _give_up(ports, kept, "its draft can not be read")
    if (found := _sha256_of(ports.outbox, kept)) != draft.manifest.data.sha256:
        return _give_up(ports, kept, f"its bytes have the sha256 {found}, not {draft.manifest.data.sha256}")
    request = draft.request()
    own = replace(job, request=request)
    own.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with trace.bound(trace_id=request.trace_id, op_id=request.op_id, operation="snapshot"):
            existing, retention_class = committing.place(own, ports.store, emergency=draft.emergency)
            if existing is None:
                _store(own, ports, kept, draft, retention_class, pace, steps)
            elif arrival.is_altered_draft(existing, draft.manifest):
                raise SnapshotInvalid(
                    f"the store has a manifest of {kept.snapshot_id} that is not the one that was sent",
                    hint=f"{committing.ALTERED_HINT}; once that manifest is removed, what is kept here is stored",
                )
            emit(
                log, logging.INFO, "outbox.shipped", f"{kept.snapshot_id} is in the store now",
                snapshot_id=kept.snapshot_id, kept_at=draft.kept_at,
            )  # fmt: skip
    finally:
        leftovers.remove_attempt(own.folder)
    ports.outbox.remove(kept.snapshot_id)
    return True


def _store(
    job: Job, ports: ShipPorts, kept: Kept, draft: Draft, retention_class: RetentionClass, pace: Pace, steps: Steps
) -> None:
    """Under a key that stays the same for these bytes: a store that loses all answers does not get a copy each time."""

    def show(sent_bytes: int) -> None:
        steps.progress(sent_bytes, kept.size_bytes)

    with contextlib.ExitStack() as opened:

        def make_chunks() -> Iterator[bytes]:
            return pace.paced(opened.enter_context(ports.outbox.open(kept.snapshot_id)), on_bytes=show)

        stored = committing.send(
            job, ports.store, make_chunks, retention_class, try8=draft.manifest.data.sha256[:8]
        )  # fmt: skip
    if stored.sha256 != draft.manifest.data.sha256:
        raise StoreError(f"{stored.key} was sent as other bytes than are kept", hint="is this node's memory sound?")
    committing.commit(job, ports.store, committing.completed(draft.manifest, stored, retention_class))


def _sha256_of(box: Outbox, kept: Kept) -> str:
    digest = hashlib.sha256()
    with box.open(kept.snapshot_id) as chunks:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def _give_up(ports: ShipPorts, kept: Kept, why: str) -> bool:
    """What is damaged on this node's disk can never be shipped: it must not stop the others."""
    ports.outbox.remove(kept.snapshot_id)
    emit(
        log, logging.ERROR, "outbox.damaged", f"{kept.snapshot_id} is damaged on this node and given up: {why}",
        snapshot_id=kept.snapshot_id,
    )  # fmt: skip
    return False
