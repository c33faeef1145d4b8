"""Verifying what a store holds: read whole, compared on the way, its structure walked; the outcome is on record."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.domain.request import format_moment
from agent.domain.snapshot import Backup, Check, Manifest, Verification
from agent.errors import (
    AgentError,
    CommandKilled,
    CommandTimeout,
    NoSpace,
    SnapshotInvalid,
    SnapshotNotFound,
)
from agent.logs import emit
from agent.operations import catalogue, leftovers, records, retrieval
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps

MOST_NAMED = 20  # in a result, which SSM cuts off at 24,000 characters
MOST_MESSAGE_CHARACTERS = 300
READS = 2  # of bytes that seem damaged: a record of that stays for ever, so the way here must not be the reason
OF_ONE_ALONE = (NoSpace, CommandKilled, CommandTimeout)  # its size may be why; the others may well be smaller
log = logging.getLogger(__name__)


@dataclass
class _Round:
    """What came of the snapshots so far; `hindrances` say nothing about the snapshots."""

    records: list[Verification] = field(default_factory=list)
    hindrances: list[AgentError] = field(default_factory=list)


def run(job: Job, ports: SnapshotPorts, steps: Steps) -> dict[str, Any]:
    """Verifies one backup, the latest good one, or all. Raises SnapshotInvalid when one is damaged.

    Of all, those come first that were not verified for the longest time, so that several rounds that run out of time
    come to each of them. A damaged one does not stop the others.
    """
    leftovers.remove_files(job.work_root, job.folder, job.hold)
    wanted = job.request.params["id"]
    unreadable: list[SnapshotInvalid] = []
    with steps.step("find"):
        chosen = (
            sorted(catalogue.backups(ports.store, job.cluster, damaged=unreadable), key=_verified_at)
            if wanted == "all"
            else [catalogue.resolve(ports.store, job.cluster, wanted)]
        )
    done = _verify_each(job, ports, steps, chosen)
    damaged = [f"{record.snapshot_id}: {record.message}" for record in done.records if not record.passed]
    damaged += [error.message for error in unreadable]
    if damaged:
        raise SnapshotInvalid(
            f"{len(damaged)} of {len(chosen) + len(unreadable)} snapshots are damaged: {_named(damaged)}"
            f"{_unchecked(len(chosen) - len(done.records), done.hindrances)}",
            hint="they are no longer counted as good; take a new snapshot now: `etcd-agent snapshot create`",
        )
    if done.hindrances:
        raise done.hindrances[0]
    rows = sorted(map(_row, done.records), key=lambda row: str(row["snapshot_id"]), reverse=True)
    return {"passed": len(rows), "verified": rows[:MOST_NAMED], "store": ports.store.describe()}


def _verified_at(backup: Backup) -> str:
    return max((record.checked_at for record in backup.verifications if record.level != "content"), default="")


def _verify_each(job: Job, ports: SnapshotPorts, steps: Steps, chosen: Sequence[Backup]) -> _Round:
    """Goes on to the next one wherever that may fare better."""
    done, total_bytes, before_bytes = _Round(), sum(backup.manifest.raw_size_bytes for backup in chosen), 0
    for backup in chosen:
        manifest = backup.manifest

        def on_bytes(count: int, before_bytes: int = before_bytes) -> None:
            steps.progress(before_bytes + count, total_bytes)

        try:
            done.records.append(_verify_one(job, ports, steps, manifest, on_bytes))
        except AgentError as error:
            if len(chosen) == 1:
                raise
            done.hindrances.append(error)
            emit(
                log, logging.WARNING, "snapshot.not_checked", f"{manifest.snapshot_id} was not verified: {error}",
                snapshot_id=manifest.snapshot_id, error_code=error.code,
            )  # fmt: skip
            if not isinstance(error, OF_ONE_ALONE):
                break
        before_bytes += manifest.raw_size_bytes
    return done


def _verify_one(
    job: Job, ports: SnapshotPorts, steps: Steps, manifest: Manifest, on_bytes: Callable[[int], None]
) -> Verification:
    path = job.folder / f"{manifest.snapshot_id}.db"
    moment, message, tool = datetime.now(UTC), "", ""
    try:
        with steps.step("download"):
            job.require_time()
            _require_room(job, ports, manifest)
            _download(ports, manifest, path, on_bytes)
        with steps.step("verify"):
            tool = ports.tool.describe()
            retrieval.check_structure(ports.tool, manifest, path)
    except (SnapshotInvalid, SnapshotNotFound) as error:
        message = error.message
    finally:
        path.unlink(missing_ok=True)
    outcome = Check("structure", "failed" if message else "passed", format_moment(moment), tool)
    record = Verification(
        snapshot_id=manifest.snapshot_id, level="structure", checks=(outcome,), checked_at=format_moment(moment),
        node=job.node, trace_id=job.request.trace_id, op_id=job.request.op_id, message=message,
    )  # fmt: skip
    with steps.step("record"):
        _record(ports, manifest, record, moment)
    return record


def _require_room(job: Job, ports: SnapshotPorts, manifest: Manifest) -> None:
    ports.room.require(
        job.folder, manifest.raw_size_bytes, manifest.snapshot_id,
        hint="make room on that disk, or verify on another node",
    )  # fmt: skip


def _download(ports: SnapshotPorts, manifest: Manifest, path: Path, on_bytes: Callable[[int], None]) -> None:
    """Writes the file for the tool alone; its bytes are compared on their way. Raises SnapshotInvalid."""
    for left in reversed(range(READS)):
        try:
            with path.open("wb") as target:
                for chunk in retrieval.raw_chunks(ports.store, manifest):
                    target.write(chunk)
                    on_bytes(target.tell())
            return
        except SnapshotInvalid as error:
            if not left:
                raise
            emit(
                log, logging.WARNING, "snapshot.read_again",
                f"{manifest.snapshot_id} seems damaged and is read once more: {error}",
                snapshot_id=manifest.snapshot_id,
            )  # fmt: skip


def _record(ports: SnapshotPorts, manifest: Manifest, record: Verification, moment: datetime) -> None:
    records.write(ports.store, manifest, record, moment)
    level = logging.INFO if record.passed else logging.ERROR
    emit(
        log, level, "snapshot.checked", f"{record.snapshot_id}: {record.message or 'restorable bytes'}",
        snapshot_id=record.snapshot_id, passed=record.passed,
    )  # fmt: skip


def _named(damaged: Sequence[str]) -> str:
    """So many that a result stays small; each of them has its record and its log line."""
    named = "; ".join(text[:MOST_MESSAGE_CHARACTERS] for text in damaged[:MOST_NAMED])
    left = len(damaged) - MOST_NAMED
    return f"{named}; and {left} more: `etcd-agent snapshot list`" if left > 0 else named


def _unchecked(count: int, hindrances: Sequence[AgentError]) -> str:
    return f"; {count} could not be checked: {hindrances[0].message[:MOST_MESSAGE_CHARACTERS]}" if count else ""


def _row(record: Verification) -> dict[str, Any]:
    return {"snapshot_id": record.snapshot_id, "passed": record.passed, "checked_at": record.checked_at}
