"""Healthy, unhealthy or dead: what a view says of each member.

- *Healthy*: started, answers Status with its own member id and our cluster id, names the common leader and term, has no
  alarm CORRUPT, and has applied all but `max_lag_entries` of what the leader has. A learner that is so is *in sync*.
- *Dead*: positive evidence, and no healthy voter has heard it for a minute.
- *Unhealthy*: all else. An unreachable member without that evidence may come back, so it is never taken for dead.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agent.domain.cluster import AlarmKind, EndpointStatus, hex_id
from agent.domain.membership import Evidence, InstanceState, Seat, View, quorum

SILENT_S = 60.0
# From here on etcd's leader has to send its whole database instead of its log (its SnapshotCatchUpEntries).
MAX_LAG_ENTRIES = 5000
GONE_STATES: frozenset[InstanceState] = frozenset({"shutting-down", "terminated", "not-found"})
Condition = Literal["healthy", "unhealthy", "dead"]


@dataclass(frozen=True)
class Leader:
    """The leader that a majority of the voters names, in the same term, and itself."""

    member_id: int
    term: int
    applied_index: int


@dataclass(frozen=True)
class Judged:
    """A member and what holds of it; `why` it is not healthy. Of a learner, healthy means in sync."""

    seat: Seat
    is_voter: bool
    condition: Condition
    why: str = ""

    @property
    def member_id(self) -> int:
        return self.seat.member.member_id

    @property
    def counts(self) -> bool:
        """Whether it is a healthy voter."""
        return self.is_voter and self.condition == "healthy"

    @property
    def told(self) -> str:
        return f"{self.seat.name} {self.why}".rstrip()


@dataclass(frozen=True)
class Assessment:
    """A view with its leader, or why it has none, and every member judged."""

    view: View
    leader: Leader | None
    no_leader: str
    members: tuple[Judged, ...]

    def of(self, member_id: int) -> Judged | None:
        return next((one for one in self.members if one.member_id == member_id), None)

    @property
    def voters(self) -> list[Judged]:
        return [one for one in self.members if one.is_voter]

    @property
    def learners(self) -> list[Judged]:
        return [one for one in self.members if not one.is_voter]

    @property
    def healthy(self) -> int:
        """How many voters are healthy."""
        return sum(one.counts for one in self.members)

    def most_caught_up(self, other_than: int = 0) -> Judged | None:
        """The healthy voter with the highest applied index, the lowest id among equals."""
        fit = [one for one in self.members if one.counts and one.member_id != other_than]
        return min(fit, key=lambda one: (-_applied_index(one.seat), one.member_id), default=None)


def assess(view: View, max_lag_entries: int = MAX_LAG_ENTRIES) -> Assessment:
    """Judges every member of a view."""
    found = common_leader(view)
    leader = found if isinstance(found, Leader) else None
    corrupt = frozenset(view.alarmed(AlarmKind.CORRUPT))
    judged = tuple(_judge(seat, view, leader, corrupt, max_lag_entries) for seat in view.seats)
    return Assessment(view, leader, "" if isinstance(found, Leader) else found, judged)


def common_leader(view: View) -> Leader | str:
    """The common leader, or why there is none.

    The answers of a view are not of one instant: who names a leader of a later term than the majority does tells that
    the majority's answers are old.
    """
    voters = [seat for seat in view.seats if votes(seat)]
    naming = [(status.leader, status.raft_term) for status in _own_answers(view.seats, view) if status.leader]
    majority = Counter((one.leader, one.raft_term) for one in _own_answers(voters, view) if one.leader)
    (leader_id, term), count = majority.most_common(1)[0] if majority else ((0, 0), 0)
    if count < quorum(len(voters)):
        named = ", ".join(f"{hex_id(one)} in term {of} by {n}" for (one, of), n in sorted(majority.items())) or "nobody"
        return f"no majority of the {len(voters)} voters names one leader; named: {named}"
    if any(other_term > term or (other_term == term and other != leader_id) for other, other_term in naming):
        return f"the majority names {hex_id(leader_id)} in term {term}, another member another leader since"
    own = next((one for one in _own_answers(voters, view) if one.member_id == leader_id), None)
    if own is None or own.leader != leader_id:
        return f"{hex_id(leader_id)}, which the majority names as leader, does not say so itself"
    return Leader(leader_id, term, own.raft_applied_index)


def votes(seat: Seat) -> bool:
    """Whether the member is to be counted as a voter: if either the list or the member itself says so.

    Where the two differ, a list is older than a promotion, or a promotion was not kept (etcd below 3.5.20).
    """
    return not seat.member.is_learner or (
        seat.status is not None and seat.status.member_id == seat.member.member_id and not seat.status.is_learner
    )


def answers_as_itself(seat: Seat, view: View) -> bool:
    """Whether its own process answered, and one of this cluster."""
    said = seat.status
    return said is not None and (said.member_id, said.cluster_id) == (seat.member.member_id, view.cluster_id)


def _own_answers(seats: Iterable[Seat], view: View) -> list[EndpointStatus]:
    return [seat.status for seat in seats if seat.status is not None and answers_as_itself(seat, view)]


def _judge(seat: Seat, view: View, leader: Leader | None, corrupt: frozenset[int], max_lag_entries: int) -> Judged:
    why = _why_dead(seat, view)
    if why:
        return Judged(seat, votes(seat), "dead", why)
    why = _why_unhealthy(seat, view, leader, corrupt, max_lag_entries)
    return Judged(seat, votes(seat), "unhealthy" if why else "healthy", why)


def _why_dead(seat: Seat, view: View) -> str:
    evidence = seat.evidence
    if answers_as_itself(seat, view):
        return ""  # whatever anybody says of its instance
    if not seat.member.is_started and evidence.holder == "nobody":
        return "never started, and no live instance has its peer host"
    if evidence.silent_s < SILENT_S:
        return ""
    if evidence.declared_dead:
        return "is dead by an operator's word, and silent"
    if evidence.instances and GONE_STATES.issuperset(evidence.instances):
        return f"is silent, and its instance is {evidence.instances[-1]}"
    return ""


def _why_unhealthy(seat: Seat, view: View, leader: Leader | None, corrupt: frozenset[int], max_lag_entries: int) -> str:
    said = seat.status
    if seat.member.member_id in corrupt:
        return "has the alarm CORRUPT"
    if not seat.member.is_started:
        return "never started"
    if said is None:
        return f"does not answer{_in_brackets(_may_come_back(seat.evidence) or seat.silence)}"
    if not answers_as_itself(seat, view):
        return f"is answered for by member {hex_id(said.member_id)} of cluster {hex_id(said.cluster_id)}"
    if said.is_learner != seat.member.is_learner:
        return f"is listed as a {_role(seat.member.is_learner)} and says that it is a {_role(said.is_learner)}"
    if leader is None or (said.leader, said.raft_term) != (leader.member_id, leader.term):
        return "does not name the common leader and term"
    lag = leader.applied_index - said.raft_applied_index
    return f"is {lag} entries behind the leader" if lag > max_lag_entries else ""


def _applied_index(seat: Seat) -> int:
    return 0 if seat.status is None else seat.status.raft_applied_index


def _may_come_back(evidence: Evidence) -> str:
    coming_back = [state for state in evidence.instances if state in ("stopping", "stopped", "pending")]
    return f"its instance is {coming_back[-1]}, it may come back" if coming_back else ""


def _role(is_learner: bool) -> str:
    return "learner" if is_learner else "voter"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
