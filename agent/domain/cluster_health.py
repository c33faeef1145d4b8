"""What the members' answers say about the cluster: who is there, and what is wrong with what to check next."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member, hex_id

NO_LEADER = "no leader"
REMEDIES = {
    AlarmKind.NOSPACE: "its database reached its quota: compact and defragment, then disarm the alarm",
    AlarmKind.CORRUPT: "its data differs from the others': replace this member",
}


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be, in which part, and what to check next."""

    part: str
    message: str
    hint: str


@dataclass(frozen=True)
class Answer:
    """A listed member and what it said of itself; `silence` is why it said nothing."""

    member: Member
    status: EndpointStatus | None
    silence: str = ""


@dataclass(frozen=True)
class ClusterView:
    """The cluster as the local member lists it, and as each member answered."""

    own: EndpointStatus
    answers: Sequence[Answer]
    alarms: Sequence[Alarm]

    @property
    def voters(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.member.is_learner]

    @property
    def healthy_voters(self) -> int:
        """Those that answer and name the local member's leader."""
        return sum(answer.status is not None and answer.status.leader == self.own.leader != 0 for answer in self.voters)

    @property
    def quorum(self) -> int:
        return len(self.voters) // 2 + 1

    def describe(self) -> str:
        """How many voters answer, and how many more may fail."""
        spare = self.healthy_voters - self.quorum
        may = f"{spare} more may fail" if spare > 0 else "no further one may fail" if spare == 0 else "it is lost"
        return f"{self.healthy_voters} of {len(self.voters)} voters healthy, quorum is {self.quorum}: {may}"


def own_problems(own: EndpointStatus) -> list[Problem]:
    """What the local member says against itself."""
    name = f"member {hex_id(own.member_id)} at {own.endpoint}"
    found = [
        Problem("member", f"{name}: {error}", "look at etcd's own log")
        for error in own.errors
        if own.leader or NO_LEADER not in error  # which is told below, in more words
    ]
    if not own.leader:
        hint = "are the other members up, and can this node reach their peer URLs? with the quorum lost, restore it"
        found.append(Problem("member", f"{name} knows no leader: the cluster takes no writes", hint))
    if own.is_learner:
        found.append(Problem("member", f"{name} is a learner, it does not vote", "promote it once it is in sync"))
    return found


def cluster_problems(view: ClusterView) -> list[Problem]:
    """What is wrong in the cluster beyond the local member."""
    found: list[Problem] = []
    for answer in view.answers:
        told = _problem_of(answer, view.own)
        if told is not None:
            found.append(told)
    if all(answer.member.member_id != view.own.member_id for answer in view.answers):
        message = f"the member list does not have this node's member {hex_id(view.own.member_id)}"
        found.append(Problem("cluster", message, "it was removed, or the endpoint is of another cluster"))
    found += [
        Problem("cluster", f"member {hex_id(alarm.member_id)} has the alarm {alarm.kind.name}", REMEDIES[alarm.kind])
        for alarm in view.alarms
        if alarm.kind in REMEDIES
    ]
    return found


def _problem_of(answer: Answer, own: EndpointStatus) -> Problem | None:
    member, status = answer.member, answer.status
    name = f"member {hex_id(member.member_id)} {member.name}".rstrip()
    if not member.is_started:
        urls = ", ".join(member.peer_urls)
        return Problem("cluster", f"{name} was added and never started", f"start etcd at {urls}, or remove the member")
    if status is None:
        urls = ", ".join(member.client_urls) or "no client URL"
        return Problem("cluster", f"{name} does not answer: {answer.silence}", f"is etcd running at {urls}?")
    if status.member_id != member.member_id:
        message = f"{status.endpoint}, which {name} names as its own, answers as {hex_id(status.member_id)}"
        return Problem("cluster", message, "two members advertise one client URL, or it is a load balancer")
    if status.leader != own.leader:
        message = f"{name} names the leader {hex_id(status.leader)}, this node's member {hex_id(own.leader)}"
        return Problem("cluster", message, "an election may be going on; look again in a few seconds")
    return None
