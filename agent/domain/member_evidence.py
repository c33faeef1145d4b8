"""What an observer gathers about members from outside of their answers, and the guard's view made of it all.

Silence and standstill are told by looks that follow each other: what happened in a longer gap, nobody saw. Time is the
observer's boot clock in seconds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.domain.cluster import Alarm, Member
from agent.domain.cluster_health import Answer
from agent.domain.identity import Registry, holder_of, states_of
from agent.domain.member_health import answers_as_itself
from agent.domain.membership import Evidence, Seat, View

# A parked operation looks every 30 s, so a few of its looks may fail.
MOST_GAP_S = 120.0


@dataclass(frozen=True)
class Progress:
    """The highest applied index that a member told, and since when it tells no higher one."""

    applied_index: int
    since_s: float


@dataclass(frozen=True)
class Looks:
    """What stays of all looks: since when each silent member was silent in every one, and each one's progress."""

    boot_id: str
    at_s: float
    silent_since_s: Mapping[int, float] = field(default_factory=dict)
    progress: Mapping[int, Progress] = field(default_factory=dict)


def look(before: Looks | None, view: View, *, now_s: float, boot_id: str) -> Looks:
    """What stays after one more look. A gap, a boot or a clock that went back begins anew."""
    linked = before is not None and before.boot_id == boot_id and 0 <= now_s - before.at_s <= MOST_GAP_S
    old = before if before is not None and linked else Looks(boot_id, now_s)
    silent, progress = {}, {}
    for seat in view.seats:
        member_id = seat.member.member_id
        if seat.status is None or not answers_as_itself(seat, view):
            silent[member_id] = old.silent_since_s.get(member_id, now_s)
            if member_id in old.progress:
                progress[member_id] = old.progress[member_id]
            continue
        known = old.progress.get(member_id)
        index = seat.status.raft_applied_index
        progress[member_id] = known if known is not None and index <= known.applied_index else Progress(index, now_s)
    return Looks(boot_id, now_s, silent, progress)


def view_of(answers: Iterable[Answer], alarms: Iterable[Alarm], *, cluster_id: int, confirmed: bool) -> View:
    """The view of what each member answered, without evidence."""
    seats = tuple(Seat(one.member, one.status, one.silence) for one in answers)
    return View(cluster_id, seats, tuple(alarms), confirmed)


def with_evidence(view: View, looks: Looks, registry: Registry, declared_dead: Collection[int] = ()) -> View:
    """The view with what is known of each member from outside. `declared_dead`: members, by an operator's word."""
    seats = tuple(
        Seat(seat.member, seat.status, seat.silence, _evidence(seat.member, looks, registry, declared_dead))
        for seat in view.seats
    )
    return View(view.cluster_id, seats, view.alarms, view.confirmed, view.downgrade_running)


def _evidence(member: Member, looks: Looks, registry: Registry, declared_dead: Collection[int]) -> Evidence:
    member_id = member.member_id
    progress = looks.progress.get(member_id)
    return Evidence(
        instances=states_of(member_id, registry),
        declared_dead=member_id in declared_dead,
        silent_s=looks.at_s - looks.silent_since_s.get(member_id, looks.at_s),
        holder=holder_of(member, registry),
        stalled_s=0.0 if progress is None else looks.at_s - progress.since_s,
    )
