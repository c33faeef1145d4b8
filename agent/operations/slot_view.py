"""A look at the schedule: the store and the outbox first, and etcd only when what they say is not enough."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.domain import slots
from agent.domain.request import parse_moment
from agent.domain.slots import Decision, Rhythm, View
from agent.errors import AgentError
from agent.logs import emit
from agent.operations import away_store, newest, slot_record
from agent.operations.newest import Newest
from agent.operations.slot_record import Slot
from agent.operations.steps import Job
from agent.ports import Etcd, EtcdKeys, Outbox, OwnRequests, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SchedulePorts:
    """What looking at the schedule needs. `prepare` has the etcd tools ready, or raises why not.

    `shared`: the store is one for all nodes; else each keeps its own, and etcd is not asked who takes a slot.
    """

    etcd: Etcd
    keys: EtcdKeys
    store: Store
    outbox: Outbox
    own: OwnRequests
    rhythm: Rhythm
    shared: bool
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Seen:
    """What a look saw, and what follows from it."""

    view: View
    slot: Slot
    newest: Newest
    decision: Decision
    missed: int

    @property
    def age_s(self) -> float | None:
        """Of the newest good snapshot."""
        return None if self.view.newest_s is None else max(0.0, self.view.now_s - self.view.newest_s)


def look(job: Job, ports: SchedulePorts, op_id: str = "") -> Seen:
    """Looks and decides. `op_id` is that of the snapshot that looks; without it the one that would be asked for."""
    now_s = time.time()
    found = newest.look(job, ports.store, ports.outbox, now_s)
    view = View(now_s, found.moment_s, None, 0, (), 0, shared=ports.shared, op_id=op_id)
    slot = Slot()
    if slots.decide(view, ports.rhythm).rule != "young":
        view, slot = _with_etcd(view, ports, is_away=found.away is not None)
        if found.away is None and slots.was_stored_since(slot.record, view.newest_s):
            found = newest.look(job, ports.store, ports.outbox, now_s)
            newest_s = away_store.newest_with(found.moment_s, slot.record, is_away=found.away is not None, now_s=now_s)
            view = replace(view, newest_s=newest_s)
        view = _with_own(replace(view, now_s=time.time()), job, ports)
    return Seen(view, slot, found, slots.decide(view, ports.rhythm), slots.missed(view, ports.rhythm))


def _with_etcd(view: View, ports: SchedulePorts, *, is_away: bool) -> tuple[View, Slot]:
    """With what etcd says; whatever it does not say leaves the view as it was known up to there."""
    slot = Slot()
    try:
        ports.prepare()
        status = ports.etcd.status()
        view = replace(view, own=status.member_id, leader=status.leader)
        voters = tuple(one.member_id for one in ports.etcd.members() if one.is_started and not one.is_learner)
        view = replace(view, voters=voters)
        if ports.shared:
            slot = slot_record.read(ports.keys)
            newest_s = away_store.newest_with(view.newest_s, slot.record, is_away=is_away, now_s=view.now_s)
            view = replace(view, record=slot.record, newest_s=newest_s)
    except AgentError as error:
        emit(
            log, logging.WARNING, "schedule.etcd_silent", f"etcd does not say all that the schedule asks: {error}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
    return view, slot


def _with_own(view: View, job: Job, ports: SchedulePorts) -> View:
    if view.op_id:
        return view
    op_id = slots.op_id(job.cluster, job.node, view.record, view.newest_s)
    failures = ports.own.failures(op_id)
    failed_s = parse_moment(failures.last_at).timestamp() if failures.last_at else 0.0
    return replace(view, op_id=op_id, failures=failures.count, failed_s=failed_s)
