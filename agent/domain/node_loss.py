"""Whether the cluster can lose a node now: by the guard's verdict on removing any one healthy voter, and by failure.

The two differ. A removal takes the voter off the list, so two of two may become one of one; a failure leaves the list
as it is, so one of two is no quorum. A node may be lost only where both hold.
"""

from dataclasses import dataclass

from agent.domain import verdict as verdicts
from agent.domain.cluster import EndpointStatus, Member
from agent.domain.guard import judge_assessed
from agent.domain.guard_ask import Ask, Policy
from agent.domain.member_health import Assessment, assess
from agent.domain.membership import Seat, View, quorum
from agent.domain.verdict import Verdict


@dataclass(frozen=True)
class NodeLoss:
    """The verdict on the removal that the guard takes worst, and what would stay if a voter failed instead.

    `size` is how many voters the cluster is meant to have, None where that is not on record. `voters` is 0 where the
    member list is not known.
    """

    removal: Verdict
    voters: int
    healthy: int
    size: int | None

    @property
    def survives_failure(self) -> bool:
        """Whether the quorum stays when any one healthy voter fails."""
        return self.voters > 0 and self.healthy - 1 >= quorum(self.voters)

    @property
    def can_lose_one(self) -> bool:
        return self.removal.allowed and self.survives_failure

    @property
    def rule(self) -> str:
        """The guard's rule that decides; `quorum` where it would allow the removal and a failure stops the cluster."""
        return "quorum" if self.removal.allowed and not self.survives_failure else self.removal.rule

    @property
    def told(self) -> str:
        """All of it in one line."""
        if self.can_lose_one:
            return f"yes, any one of the {self.healthy} healthy voters ({self.rule}): {self._left}{self._judged_by}"
        if self.removal.allowed:
            return f"no ({self.rule}): if one of {self.healthy} healthy voters fails, {self._left}{self._judged_by}"
        failure = f"; if one fails, {self._left}" if self.survives_failure else ""
        return f"no: {verdicts.text(self.removal)}{failure}{self._judged_by}"

    @property
    def _left(self) -> str:
        return f"{max(self.healthy - 1, 0)} of {self.voters} stay healthy, quorum is {quorum(self.voters)}"

    @property
    def _judged_by(self) -> str:
        if self.size is not None or not self.voters:
            return ""
        listed = f"the {self.voters} listed voter{'s' * (self.voters != 1)}"
        return f" (judged by {listed}; the size it is meant to have is not on record)"


def judge(now: Assessment, size: int | None) -> NodeLoss:
    """What the guard says to the removal of each healthy voter, of each voter where none is healthy; the worst of it.

    A size that is not known is taken to be the number of listed voters, which hides those that vanished before.
    """
    policy = Policy(len(now.voters) if size is None else size)
    asked = [one for one in now.voters if one.counts] or now.voters or list(now.members)
    said = [judge_assessed(now, Ask("remove", one.member_id), policy) for one in asked]
    refusals = [one for one in said if not one.allowed]
    worst = (refusals or said or [judge_assessed(now, Ask("remove"), policy)])[0]
    return NodeLoss(worst, len(now.voters), now.healthy, size)


def unlisted(own: EndpointStatus) -> NodeLoss:
    """The same where the member list can not be had, so that only the local member's own word is there."""
    seat = Seat(Member(own.member_id, "of this node", (), (own.endpoint,), is_learner=own.is_learner), own)
    now = assess(View(own.cluster_id, (seat,), confirmed=False))
    return NodeLoss(judge_assessed(now, Ask("remove", own.member_id), Policy(None)), 0, 0, None)
