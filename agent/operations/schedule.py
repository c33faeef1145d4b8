"""The operation `schedule`: one look at the node's own schedule, which asks for a snapshot when one is due here."""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent import metrics
from agent.domain import request as requests
from agent.domain.request import format_moment
from agent.logs import emit
from agent.operations import slot_view
from agent.operations.slot_view import SchedulePorts, Seen
from agent.operations.steps import Job, Steps

log = logging.getLogger(__name__)


def run(job: Job, ports: SchedulePorts, steps: Steps) -> dict[str, Any]:
    """Looks, asks if it has to, and tells the metrics. The output says what was decided, and when to look again."""
    with steps.step("look"):
        seen = slot_view.look(job, ports)
        asked = seen.decision.act and _asked(job, ports, seen)
    emit(log, logging.INFO, "schedule.looked", seen.decision.reason, decision=seen.decision.rule,
         look_again_in_s=round(_again_in_s(seen, ports), 3))  # fmt: skip
    metrics.schedule_looked(seen.age_s, seen.missed)
    if seen.missed:
        emit(
            log, logging.WARNING, "schedule.missed",
            f"the newest good snapshot is {seen.age_s:.0f} s old, {ports.rhythm.max_age_s:.0f} s may be",
            missed=seen.missed, age_s=round(seen.age_s or 0.0),
        )  # fmt: skip
    return _told(seen, ports) | {"asked": asked}


def _asked(job: Job, ports: SchedulePorts, seen: Seen) -> bool:
    """The snapshot goes on under the trace of the look that found it due."""
    request = requests.make(
        op_id=seen.view.op_id, operation="snapshot", trace_id=job.request.trace_id, source="node",
        requested_at=format_moment(datetime.now(UTC)), params={"scheduled": "true"},
    )  # fmt: skip
    asked = ports.own.ask(request)
    emit(log, logging.INFO, "schedule.asked", f"asks for {request.op_id}: {seen.decision.reason}",
         snapshot_op_id=request.op_id, is_new=asked)  # fmt: skip
    return asked


def _again_in_s(seen: Seen, ports: SchedulePorts) -> float:
    return ports.rhythm.look_s if seen.decision.act else seen.decision.wait_s


def _told(seen: Seen, ports: SchedulePorts) -> dict[str, Any]:
    decision, record = seen.decision, seen.slot.record
    return {
        "looked_at": format_moment(datetime.fromtimestamp(seen.view.now_s, UTC)),
        "decision": decision.rule,
        "reason": decision.reason,
        "look_again_in_s": _again_in_s(seen, ports),
        "snapshot_op_id": seen.view.op_id or None,
        "newest_good": seen.newest.snapshot_id or None,
        "age_s": None if seen.age_s is None else round(seen.age_s),
        "due_in_s": None if seen.age_s is None else round(ports.rhythm.due_after_s - seen.age_s),
        "missed": seen.missed,
        "slot": None if record is None else msgspec.to_builtins(record),
        "store_away": None if seen.newest.away is None else seen.newest.away.message,
    }
