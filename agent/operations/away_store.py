"""What counts while the store is away: the node's own outbox, and what the slot's key in etcd tells of other nodes'."""

import logging

from agent.domain.slots import SlotRecord, kept_moment_s, newest_of
from agent.domain.snapshot import Manifest
from agent.logs import emit
from agent.ports import Outbox

log = logging.getLogger(__name__)


def kept_here(outbox: Outbox) -> list[Manifest]:
    """The good snapshots that wait on this node; none where its folder can not be read."""
    try:
        return [one.draft.manifest for one in outbox.kept() if one.draft is not None and one.is_good]
    except OSError as error:
        emit(log, logging.WARNING, "schedule.outbox_unread", f"what waits in the outbox is not known: {error}")
        return []


def newest_with(moment_s: float | None, record: SlotRecord | None, *, is_away: bool, now_s: float) -> float | None:
    """The newest moment of what was found and of what the slot's key proves."""
    return newest_of(moment_s, kept_moment_s(record, store_is_away=is_away), now_s=now_s)
