"""Which member a snapshot is read from: a snapshot costs the member that sends it, so rather not the leader.

The local member if it is a healthy voter and not the leader, else the fittest voter; nobody only if none is fit. Never
a learner, whose data may be behind and which never answers `snapshot save` in etcd 3.4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.domain import cluster
from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Finding, Member, hex_id
from agent.domain.cluster_health import Answer, ClusterView
from agent.domain.etcd_tools import same_minor

MOST_LAG_ENTRIES = 1000
LOCAL_FOLLOWER = "it is this node's own member, a healthy voter that does not lead"
_Leader = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """A member that may be read from, what it said of itself, and why it stands where it does."""

    member: Member
    status: EndpointStatus
    is_local: bool
    why: str

    @property
    def name(self) -> str:
        return name_of(self.member)


@dataclass(frozen=True)
class PassedOver:
    """A listed member that may not be read from, and why."""

    member: Member
    why: str


@dataclass(frozen=True)
class Ranking:
    """Who may be read from, the fittest first; who may not; and what stands against the local member, if anything."""

    choices: tuple[Choice, ...]
    passed_over: tuple[PassedOver, ...]
    against_local: Finding | None

    def refusal(self) -> Finding:
        """Why nobody may be read from: the local member's own rule, and what is wrong with each other one."""
        if (found := self.against_local) is None:
            raise AssertionError("the local member is fit where nothing stands against it")
        others = "; ".join(f"{name_of(one.member)} {one.why}" for one in self.passed_over)
        return Finding(found.rule, f"{found.message}; no other member is fit: {others or 'there is none'}", found.hint)


def name_of(member: Member) -> str:
    """A member for people: its id, and its name if it has one."""
    return f"member {hex_id(member.member_id)} {member.name}".rstrip()


def against_local(own: EndpointStatus, members: Sequence[Member] | None, alarms: Iterable[Alarm]) -> Finding | None:
    """The first thing that stands against the local member; `members` is None where the list is not known."""
    found = [*cluster.endpoint_findings(own, own), *cluster.leader_findings(own)]
    found += cluster.cluster_findings(own, members, alarms) if members is not None else []
    return found[0] if found else None


def rank(view: ClusterView) -> Ranking:
    """Who may be read from, by what each member said of itself."""
    own, common = view.own, _common_leader(view)
    against = against_local(own, [answer.member for answer in view.answers], view.alarms)
    if against is None and common != (own.leader, own.raft_term):
        against = _names_an_older_leader(own)
    passed: list[PassedOver] = []
    fit: list[Choice] = []
    for answer in view.answers:
        is_local = answer.member.member_id == own.member_id
        if is_local:
            fit += [Choice(answer.member, own, True, "")] if against is None else []
            continue
        why = _why_unfit(answer, view, common)
        if why or answer.status is None:
            passed.append(PassedOver(answer.member, why))
        else:
            fit.append(Choice(answer.member, answer.status, False, ""))
    newest = max((one.status.raft_applied_index for one in fit), default=0)
    for one in [one for one in fit if newest - one.status.raft_applied_index > MOST_LAG_ENTRIES and not one.is_local]:
        fit.remove(one)
        passed.append(PassedOver(one.member, f"is {newest - one.status.raft_applied_index:,} entries behind"))
    return Ranking(tuple(_with_reasons(sorted(fit, key=lambda one: _order(one, own)))), tuple(passed), against)


def _order(choice: Choice, own: EndpointStatus) -> tuple[bool, bool, bool, int, int]:
    """Followers before leaders, the local one before others; then who is of the local tools' minor, then the newest."""
    status = choice.status
    other_minor = not same_minor(status.version, own.version)
    return status.is_leader, not choice.is_local, other_minor, -status.raft_applied_index, status.member_id


def _with_reasons(ordered: Sequence[Choice]) -> Iterable[Choice]:
    for one in ordered:
        if one.status.is_leader:
            whose = "this node's own" if one.is_local else "another node's"
            why = f"it is {whose} member and leads, and no follower can be read from"
        else:
            why = LOCAL_FOLLOWER if one.is_local else (
                f"it is the fittest follower, at applied index {one.status.raft_applied_index:,}, and this node's own "
                "member leads or is not fit"
            )  # fmt: skip
        yield Choice(one.member, one.status, one.is_local, why)


def _common_leader(view: ClusterView) -> _Leader | None:
    """The leader of the newest term that a voter names; an older one lost its term already."""
    named = [
        (answer.status.raft_term, answer.status.leader) for answer in view.answers
        if answer.status is not None and answer.status.leader and not _why_not_itself(answer, view)
    ]  # fmt: skip
    if not named:
        return None
    term, leader = max(named)
    return leader, term


def _why_unfit(answer: Answer, view: ClusterView, common: _Leader | None) -> str:
    """Why a member may not be read from; "" if it may."""
    why = _why_not_itself(answer, view)
    if why or answer.status is None:
        return why
    if any(one.member_id == answer.member.member_id and one.kind is AlarmKind.CORRUPT for one in view.alarms):
        return "has the alarm CORRUPT"
    if not answer.status.leader:
        return "knows no leader"
    if (answer.status.leader, answer.status.raft_term) != common:
        return f"names the leader {hex_id(answer.status.leader)} of the older term {answer.status.raft_term}"
    return ""


def _why_not_itself(answer: Answer, view: ClusterView) -> str:
    """Why what was answered for a member is not the word of that voter of this cluster; "" if it is."""
    member, status = answer.member, answer.status
    if status is None and not member.is_started:
        return "never started"
    if member.is_learner or (status is not None and status.is_learner):
        return "is a learner"
    if status is None:
        return f"does not answer: {answer.silence}"
    if (status.member_id, status.cluster_id) != (member.member_id, view.own.cluster_id):
        return f"is answered for by member {hex_id(status.member_id)} of cluster {hex_id(status.cluster_id)}"
    return ""


def _names_an_older_leader(own: EndpointStatus) -> Finding:
    return Finding(
        "no-leader",
        f"the member at {own.endpoint} names the leader {hex_id(own.leader)} of term {own.raft_term}, and others name "
        "that of a newer term",
        "an election may be going on; look again in a few seconds: `etcd-agent status`",
    )
