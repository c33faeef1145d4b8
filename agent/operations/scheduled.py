"""A scheduled snapshot: is it still due, the slot's claim, the snapshot, and what came of it."""

import logging
from collections.abc import Callable
from typing import Any

from agent.domain import snapshot
from agent.domain.request import parse_moment
from agent.logs import emit
from agent.operations import slot_record, slot_view
from agent.operations.slot_view import SchedulePorts, Seen
from agent.operations.steps import Job, Steps

log = logging.getLogger(__name__)


def run(job: Job, ports: SchedulePorts, steps: Steps, take: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Takes it if it is still due and no other node has claimed it; else the output's `due` is false."""
    with steps.step("slot"):
        seen = slot_view.look(job, ports, job.request.op_id)
        if not _goes_on(job, seen):
            if not seen.decision.act:
                return _nothing(seen, seen.decision.reason)
            if ports.shared and not slot_record.claim(job, ports.keys, seen.slot):
                return _nothing(seen, "another node claimed the slot first")
    if not ports.shared:
        return take()
    return _with_its_end(job, ports, seen.missed, take)


def _with_its_end(
    job: Job, ports: SchedulePorts, missed: int, take: Callable[[], dict[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    """An interruption leaves the claim: the next attempt goes on with it."""
    try:
        output = take()
    except Exception:
        slot_record.end(job, ports.keys, state="failed")
        raise
    requested_at_s = parse_moment(job.request.requested_at).timestamp()
    slot_record.end(
        job, ports.keys, state="done", requested_at_s=requested_at_s, snapshot_id=output["snapshot_id"],
        stored=output["stored"], missed=missed,
    )  # fmt: skip
    return output


def _goes_on(job: Job, seen: Seen) -> bool:
    """Whether an earlier attempt claimed the slot, or took the snapshot already."""
    own = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    record = seen.slot.record
    claimed = record is not None and record.state == "claimed" and record.op_id == job.request.op_id
    return job.attempt > 1 and (claimed or seen.newest.snapshot_id == own)


def _nothing(seen: Seen, why: str) -> dict[str, Any]:
    emit(log, logging.INFO, "schedule.not_due", f"no snapshot is taken: {why}")
    return {"due": False, "why": why, "newest_good": seen.newest.snapshot_id or None}
