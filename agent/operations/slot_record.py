"""The slot's key in etcd: two short writes for each slot, and never a reason for having no snapshot."""

import logging
import time
from dataclasses import dataclass

import msgspec

from agent.domain import slots
from agent.domain.slots import SlotRecord
from agent.errors import AgentError, BadInput, EtcdOutcomeUnknown
from agent.logs import emit
from agent.operations.steps import Job
from agent.ports import EtcdKeys

KEY = "/etcd-agent/v1/slot"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """The key as it was read: its record, None where there is none that can be read, and its last change."""

    record: SlotRecord | None = None
    mod_revision: int = 0


def read(keys: EtcdKeys) -> Slot:
    """Reads the key. Raises EtcdError's family; what is not ours there is told, and the next claim replaces it."""
    found = keys.get(KEY)
    if not found.mod_revision:
        return Slot()
    try:
        return Slot(slots.decode(found.value), found.mod_revision)
    except BadInput as error:
        emit(log, logging.WARNING, "slot.unreadable", f"{KEY}: {error}")
        return Slot(None, found.mod_revision)


def claim(job: Job, keys: EtcdKeys, seen: Slot) -> bool:
    """Whether this node may take the slot: it is ours now, or nobody's because etcd takes no writes."""
    before = seen.record
    record = SlotRecord(
        slot=slots.next_slot(before), state="claimed", node=job.node, instance_id=job.instance_id,
        trace_id=job.request.trace_id, op_id=job.request.op_id, claimed_at_s=time.time(),
        missed=before.missed if before else 0,
    )  # fmt: skip
    try:
        claimed = _written(keys, seen, record)
    except AgentError as error:
        _not_written(error, record)
        return True
    if claimed:
        emit(log, logging.INFO, "slot.claimed", f"slot {record.slot} is ours", slot=record.slot)
    else:
        emit(log, logging.INFO, "slot.lost", f"another node claimed slot {record.slot} first", slot=record.slot)
    return claimed


def end(job: Job, keys: EtcdKeys, *, missed: int = 0, **outcome: object) -> None:
    """Writes what came of our claim (`state`, and of a snapshot what it is), if the slot is still ours.

    `missed` slots are counted with the one that ends them, and not with each claim that fails meanwhile.
    """
    try:
        seen = read(keys)
        record = seen.record
        if record is None or record.op_id != job.request.op_id or record.state != "claimed":
            return
        ended = msgspec.structs.replace(record, missed=record.missed + missed, **outcome)
        if keys.put_if_unchanged(KEY, seen.mod_revision, slots.encode(ended)):
            emit(log, logging.INFO, "slot.ended", f"slot {ended.slot} is {ended.state}", slot=ended.slot)
    except AgentError as error:
        emit(
            log, logging.WARNING, "slot.not_written", f"what came of the slot is not in etcd: {error.message}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip


def _written(keys: EtcdKeys, seen: Slot, record: SlotRecord) -> bool:
    try:
        return keys.put_if_unchanged(KEY, seen.mod_revision, slots.encode(record))
    except EtcdOutcomeUnknown:
        found = read(keys)
        if found.mod_revision == seen.mod_revision:
            raise
        return found.record is not None and found.record.op_id == record.op_id


def _not_written(error: AgentError, record: SlotRecord) -> None:
    emit(
        log, logging.WARNING, "slot.not_written",
        f"slot {record.slot} can not be claimed, the snapshot is taken all the same: {error.message}",
        error_code=error.code, error_message=error.message, error_hint=error.hint,
    )  # fmt: skip
