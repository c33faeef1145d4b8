"""Preflight: which member a snapshot is read from, and what the snapshot must at least hold."""

import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from agent.domain import cluster, snapshot_source
from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Finding, Member, hex_id
from agent.domain.cluster_health import ClusterView
from agent.domain.snapshot_source import Choice
from agent.errors import AgentError, CommandTimeout, EtcdError, Refused
from agent.logs import emit
from agent.operations import cluster_view
from agent.ports import Etcd

LOOKS_AGAIN = 2
At: TypeAlias = Callable[[str], Etcd]
SOURCE_TROUBLE = (EtcdError, CommandTimeout)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The member that the snapshot is read from, the door to it, and the revision that the snapshot must at least hold.

    `note` is how that revision is known.
    """

    status: EndpointStatus
    least_revision: int
    note: str
    door: Etcd
    name: str
    is_local: bool
    why: str


def find(
    etcd: Etcd, *, emergency: bool, at: At | None = None, avoid: AbstractSet[int] = frozenset()
) -> Source:  # fmt: skip
    """The member to read from now. `etcd` is the local one, `at` the door to the member at a URL, None: none is open.

    `avoid` has the ids of members that failed to send. Raises Refused, EtcdError.
    """
    own = etcd.status()
    for _ in range(LOOKS_AGAIN):  # more than one: a load balancer may well choose the same member twice
        again = etcd.status()
        _refuse_first([one for one in cluster.endpoint_findings(own, again) if again.member_id != own.member_id])
    if emergency:
        _refuse_first(cluster.endpoint_findings(own, own))
        source = Source(own, 0, "emergency", etcd, "", True, "an emergency keeps what this node's member holds")
    else:
        source = _found(etcd, at, own, avoid)
    emit(
        log, logging.INFO, "source.chosen",
        f"member {hex_id(source.status.member_id)} {source.name} at {source.status.endpoint}: {source.why}",
        member_id=hex_id(source.status.member_id), member_name=source.name, endpoint=source.status.endpoint,
        is_local=source.is_local, reason=source.why,
    )  # fmt: skip
    return source


def not_taken(member_id: int, name: str, reason: str, *, was_chosen: bool = True) -> None:
    """Tells that a member which might have been read from is not."""
    level = logging.WARNING if was_chosen else logging.INFO
    message = f"{name} is not read from: {reason}"
    emit(log, level, "source.not_taken", message, member_id=hex_id(member_id), reason=reason)


@dataclass(frozen=True)
class _Cluster:
    """The cluster as the local member lists it, and what came in the way of reading from a member, by its id."""

    local: Etcd
    at: At | None
    own: EndpointStatus
    members: Sequence[Member]
    alarms: Sequence[Alarm]
    failures: dict[int, AgentError] = field(default_factory=dict)

    def opened(self, choice: Choice) -> Source | None:
        """The choice as a source, once another voter confirmed its revision; None if it can not be read now."""
        member_id = choice.status.member_id
        door = self.local if self.at is None or choice.is_local else self.at(choice.status.endpoint)
        try:
            least_revision, note = self._confirmed_revision(member_id, door)
            # Brings the member up to what was read through the other one, and shows once more who answers there.
            door.linearizable_revision(member_id=0 if choice.is_local else member_id)
        except (*SOURCE_TROUBLE, Refused) as error:
            self.failures[member_id] = error
            not_taken(member_id, choice.name, error.message)
            return None
        return Source(choice.status, least_revision, note, door, choice.member.name, choice.is_local, choice.why)

    def _confirmed_revision(self, member_id: int, door: Etcd) -> tuple[int, str]:
        """A revision that another voter than the source confirms, and who. Raises Refused."""
        voters = cluster.other_voters(self.members, member_id)
        if not voters:
            return door.linearizable_revision(), "sole_voter"
        corrupt = {alarm.member_id for alarm in self.alarms if alarm.kind is AlarmKind.CORRUPT}
        problems = []
        for member in sorted(voters, key=lambda one: (one.member_id in corrupt, one.member_id != self.own.member_id)):
            is_own = member.member_id == self.own.member_id
            for url in (None,) if is_own else cluster.usable_urls(member):
                try:
                    revision = self.local.linearizable_revision(url, member_id=member.member_id)
                    return revision, f"confirmed by {member.name}"
                except SOURCE_TROUBLE as error:
                    problems.append(f"{member.name}: {error}")
        raise Refused(
            f"none of the {len(voters)} other voters confirms this member's data: {'; '.join(problems)}",
            rule="no-other-voter",
            hint="repair a second member; to keep what this one holds anyway: `etcd-agent snapshot create --emergency`",
        )


def _found(etcd: Etcd, at: At | None, own: EndpointStatus, avoid: AbstractSet[int]) -> Source:
    seen = _listed(etcd, at, own)
    against = snapshot_source.against_local(own, seen.members, seen.alarms)
    local = next((one for one in seen.members if one.member_id == own.member_id), None)
    if local is not None and against is None and (at is None or not own.is_leader):
        # A follower that may be read from is not asked to wait for what the others say of themselves.
        why = "snapshot.source is local" if at is None else snapshot_source.LOCAL_FOLLOWER
        source = seen.opened(Choice(local, own, True, why))
        if source is not None:
            return source
    if at is None and against is not None:
        _refuse(against)
    if at is not None:
        ranking = snapshot_source.rank(ClusterView(own, cluster_view.ask(seen.members, own, at), seen.alarms))
        for passed in ranking.passed_over:
            name = snapshot_source.name_of(passed.member)
            not_taken(passed.member.member_id, name, passed.why, was_chosen=False)
        for choice in ranking.choices:
            if choice.status.member_id not in {*seen.failures, *avoid} and (source := seen.opened(choice)) is not None:
                return source
        if not seen.failures:
            _refuse(ranking.refusal())
    raise next(iter(seen.failures.values()))  # of who would have been read from first


def _listed(etcd: Etcd, at: At | None, own: EndpointStatus) -> _Cluster:
    """Members and alarms. A learner names neither; nor does, from 3.5 on, a member without a leader."""
    against = snapshot_source.against_local(own, None, ())
    try:
        return _Cluster(etcd, at, own, etcd.members(), etcd.alarms())
    except SOURCE_TROUBLE as error:
        if against is None:
            raise
        _refuse(Finding(against.rule, f"{against.message}; nor does it name other members: {error.message}",
                        against.hint))  # fmt: skip


def _refuse_first(findings: list[Finding]) -> None:
    for finding in findings:
        _refuse(finding)


def _refuse(finding: Finding) -> NoReturn:
    raise Refused(finding.message, rule=finding.rule, hint=finding.hint)
