"""Pruning a store: a plan over all that it lists, then removal in an order that never shows what is gone.

The manifest goes first, then the data, then the records beside it: a crash between leaves data that nothing lists,
which the next pruning finds.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.domain import retention, snapshot
from agent.domain.request import parse_moment
from agent.domain.retention import ClassRule, Held, Verdict
from agent.domain.snapshot import Backup, RetentionClass
from agent.logs import emit
from agent.operations import catalogue
from agent.operations.steps import Job, Steps
from agent.ports import Eraser, Store

if TYPE_CHECKING:
    from agent.errors import SnapshotInvalid

UNLISTED_FOR = timedelta(days=2)
log = logging.getLogger(__name__)
Rules = Mapping[RetentionClass, ClassRule]


@dataclass(frozen=True)
class PrunePorts:
    """The store, the right to remove from it, and the rules of the configuration."""

    store: Store
    eraser: Eraser
    rules: Rules


@dataclass(frozen=True)
class Plan:
    """A verdict for each snapshot, old data without a manifest, and manifests that can not be read.

    `data_keys` names the object of each snapshot, by class and id.
    """

    verdicts: tuple[Verdict, ...]
    unlisted: tuple[str, ...]
    damaged: tuple[str, ...]
    data_keys: Mapping[tuple[RetentionClass, str], str]

    @property
    def going(self) -> list[Held]:
        """What goes, the oldest first: when this stops half-way, the newer ones are still there."""
        return [verdict.held for verdict in reversed(self.verdicts) if not verdict.keep]

    def document(self) -> dict[str, Any]:
        """The plan as results and `--json` have it."""
        return {
            "kept": [_row(verdict) for verdict in self.verdicts if verdict.keep],
            "removed": [_row(verdict) for verdict in self.verdicts if not verdict.keep],
            "unlisted_removed": list(self.unlisted),
            "damaged_manifests": list(self.damaged),
        }


def run(job: Job, ports: PrunePorts, steps: Steps) -> dict[str, Any]:
    """Removes what the rules let go. Returns what went and how many stay. Raises the store's errors."""
    with steps.step("plan"):
        made = plan(ports, job.cluster, datetime.now(UTC))
    with steps.step("remove"):
        carry_out(ports, made)
    document = made.document()
    return {**document, "kept": len(document["kept"]), "store": ports.store.describe()}


def plan(ports: PrunePorts, cluster: str, now: datetime) -> Plan:
    """What would go now. An incomplete listing raises, so that nothing goes because of what was not seen."""
    # Data first: what is committed between the two listings then has its manifest in the second one.
    data = [
        key
        for retention_class in snapshot.RETENTION_CLASSES
        for key in ports.store.keys(snapshot.data_folder(retention_class, cluster))
    ]
    damaged: list[SnapshotInvalid] = []
    backups = catalogue.backups(ports.store, cluster, damaged=damaged)
    rows = [_held(backup) for backup in backups]
    first = retention.plan(rows, cluster=cluster, now=now, rules=ports.rules)
    manifests = [backup.manifest for backup in backups]
    data_keys = {(one.retention_class, one.snapshot_id): one.data.key for one in manifests}
    locked = {
        verdict.held: replace(
            verdict.held, locked_until=_locked_until(ports.eraser, verdict.held, data_keys[_name(verdict.held)])
        )
        for verdict in first
        if not verdict.keep
    }
    verdicts = retention.plan([locked.get(row, row) for row in rows], cluster=cluster, now=now, rules=ports.rules)
    unlisted = [] if damaged else _unlisted(ports.eraser, set(data) - set(data_keys.values()), now)
    return Plan(tuple(verdicts), tuple(unlisted), tuple(error.message for error in damaged), data_keys)


def carry_out(ports: PrunePorts, made: Plan) -> None:
    """Removes what the plan lets go; may be repeated."""
    for held in made.going:
        _remove(ports, held, made.data_keys[_name(held)])
    for key in made.unlisted:
        ports.eraser.remove(key)
        emit(log, logging.INFO, "snapshot.unlisted_removed", f"{key} had no manifest: it was no backup", key=key)


def _remove(ports: PrunePorts, held: Held, data_key: str) -> None:
    folder = snapshot.manifest_folder(held.retention_class, held.cluster)
    records = [key for key in ports.store.keys(folder) if snapshot.id_of_verification_key(key) == held.snapshot_id]
    ports.eraser.remove(snapshot.manifest_key(held.retention_class, held.cluster, held.snapshot_id))
    # The word by which nodes agreed on its class is of no use any more.
    for key in (data_key, *records, snapshot.class_key(held.cluster, held.snapshot_id)):
        ports.eraser.remove(key)
    emit(
        log, logging.INFO, "snapshot.pruned", f"removed {held.snapshot_id} of class {held.retention_class}",
        snapshot_id=held.snapshot_id, retention_class=held.retention_class,
    )  # fmt: skip


def _held(backup: Backup) -> Held:
    manifest = backup.manifest
    return Held(
        snapshot_id=manifest.snapshot_id, retention_class=manifest.retention_class, cluster=manifest.cluster,
        requested_at=parse_moment(manifest.requested_at), is_good=backup.is_good, is_sound=backup.is_sound,
    )  # fmt: skip


def _name(held: Held) -> tuple[RetentionClass, str]:
    return held.retention_class, held.snapshot_id


def _locked_until(eraser: Eraser, held: Held, data_key: str) -> datetime | None:
    manifest_key = snapshot.manifest_key(held.retention_class, held.cluster, held.snapshot_id)
    facts = (eraser.facts(key) for key in (manifest_key, data_key))
    return max((one.locked_until for one in facts if one and one.locked_until), default=None)


def _unlisted(eraser: Eraser, keys: set[str], now: datetime) -> list[str]:
    """Data without a manifest that lies there for two days: younger ones may be about to get theirs."""
    found = []
    for key in sorted(keys):
        facts = eraser.facts(key)
        unlocked = facts and (facts.locked_until is None or facts.locked_until <= now)
        if facts and unlocked and now - facts.modified_at >= UNLISTED_FOR:
            found.append(key)
    return found


def _row(verdict: Verdict) -> dict[str, str]:
    held = verdict.held
    return {"snapshot_id": held.snapshot_id, "retention_class": held.retention_class, "reason": verdict.reason}
