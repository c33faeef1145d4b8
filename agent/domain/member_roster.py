"""The members as a person wants to see them: each row of the list with its health, its lag and whose node it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.domain.cluster import hex_id
from agent.domain.identity import Registered
from agent.domain.member_health import Assessment, Condition, Judged, answers_as_itself
from agent.domain.member_record import NodeRecord
from agent.domain.membership import View

Role = Literal["voter", "learner", "unstarted"]


@dataclass(frozen=True)
class Row:
    """One member. What it did not say itself, and what no record says, is None.

    `condition` and `why` are those of the guard; of a learner, healthy means in sync. `lag_entries` counts from the
    common leader's applied index at about the same moment. `records` are those that name the member, the newest first.
    """

    judged: Judged
    role: Role
    is_leader: bool
    lag_entries: int | None
    db_size_bytes: int | None
    version: str | None
    alarms: tuple[str, ...]
    records: tuple[NodeRecord, ...]

    @property
    def condition(self) -> Condition:
        return self.judged.condition

    @property
    def instance_id(self) -> str | None:
        return self.records[0].instance_id if self.records else None

    @property
    def agent_version(self) -> str | None:
        return self.records[0].agent_version if self.records else None


def rows(now: Assessment, records: Mapping[str, Registered]) -> list[Row]:
    """A row for each listed member, in the order of the list; `records` by instance id."""
    return [_row(one, now, records) for one in now.members]


def stray_alarms(view: View) -> list[str]:
    """Alarms of members that are not listed any more, in words: an alarm outlives its member."""
    return [
        f"{alarm.kind.name} of {hex_id(alarm.member_id)}" for alarm in view.alarms if view.seat(alarm.member_id) is None
    ]


def _row(one: Judged, now: Assessment, records: Mapping[str, Registered]) -> Row:
    said = one.seat.status if answers_as_itself(one.seat, now.view) else None
    lag = None if said is None or now.leader is None else max(0, now.leader.applied_index - said.raft_applied_index)
    return Row(
        judged=one,
        role=_role(one),
        is_leader=now.leader is not None and now.leader.member_id == one.member_id,
        lag_entries=lag,
        db_size_bytes=None if said is None else said.db_size_bytes,
        version=None if said is None else said.version,
        alarms=tuple(alarm.kind.name for alarm in now.view.alarms if alarm.member_id == one.member_id),
        records=_naming(one.member_id, now.view.cluster_id, records),
    )


def _role(one: Judged) -> Role:
    if not one.seat.member.is_started:
        return "unstarted"
    return "learner" if one.seat.member.is_learner else "voter"


def _naming(member_id: int, cluster_id: int, records: Mapping[str, Registered]) -> tuple[NodeRecord, ...]:
    """The records of this cluster that name the member: of several, one belongs to an instance that had it before."""
    found = [
        (known.mod_revision, known.record)
        for known in records.values()
        if isinstance(known.record, NodeRecord)
        and (known.record.member_id, known.record.cluster_id) == (hex_id(member_id), hex_id(cluster_id))
    ]
    return tuple(record for _, record in sorted(found, key=lambda pair: pair[0], reverse=True))
