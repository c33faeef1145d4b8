"""What is asked of the guard, the policy it is judged by, and one case: both together with the assessed view."""

from dataclasses import dataclass, replace
from typing import Literal

from agent.domain.cluster import AlarmKind, Member, hex_id
from agent.domain.member_health import MAX_LAG_ENTRIES, Assessment, Judged, Leader
from agent.domain.membership import Seat
from agent.domain.verdict import JOINER, Margin, Plan, Refusal, Rule, Step

CORRUPT_STAYS = "the alarm CORRUPT stays when its member is gone, and etcd takes no writes until it is disarmed"
Verb = Literal["remove", "replace", "add", "promote", "move-leader", "defrag"]
By = Literal["operator", "trigger", "node"]


@dataclass(frozen=True)
class Policy:
    """`size`: how many voters the cluster is meant to have, None while unknown. `pause`: why it is paused, or empty."""

    size: int | None
    pause: str = ""
    max_lag_entries: int = MAX_LAG_ENTRIES


@dataclass(frozen=True)
class Joiner:
    """A member that is to come; `version` of its etcd, empty where nobody knows it yet."""

    name: str
    peer_urls: tuple[str, ...]
    version: str = ""


@dataclass(frozen=True)
class Ask:
    """One verb on one member. For move-leader that is the next leader, 0 for the most caught-up voter.

    `by`: an operator, a trigger that names this very node (its termination), or the agents by themselves.
    `accept_stall`: an operator takes it that the cluster's writes wait while the member is defragmented.
    """

    verb: Verb
    member_id: int = 0
    joiner: Joiner | None = None
    by: By = "operator"
    accept_stall: bool = False


@dataclass(frozen=True)
class Case:
    """What is asked, in an assessed view, by a policy. A plan is made by going through cases that its steps lead to."""

    now: Assessment
    ask: Ask
    policy: Policy
    subject: str
    steps: tuple[Step, ...] = ()

    @property
    def target(self) -> Judged | None:
        return self.now.of(self.ask.member_id)

    @property
    def the_target(self) -> Judged:
        """The target where it is known to be listed."""
        if self.target is None:
            raise LookupError(f"member {self.ask.member_id} is not listed")
        return self.target

    @property
    def size(self) -> int:
        """The size where it is known to be known."""
        if self.policy.size is None:
            raise LookupError("the size is not known")
        return self.policy.size

    def healthy_besides(self, member_id: int) -> int:
        """How many voters but that one are healthy."""
        return sum(one.counts for one in self.now.members if one.member_id != member_id)

    def allow(self, rule: Rule) -> Plan:
        """The plan of the steps so far."""
        warnings = [one.told for one in self.now.voters if not one.counts]
        if self.now.view.alarmed(AlarmKind.CORRUPT):  # the target's, as nobody else may have it
            warnings.append(f"{CORRUPT_STAYS}: compare the others' data, then `etcdctl alarm disarm`")
        margin = Margin(len(self.now.voters), self.now.healthy)
        return Plan(self.subject, rule, self.steps, margin, tuple(warnings))

    def refuse(self, rule: Rule, reason: str, remedy: str, blockers: tuple[int, ...] = ()) -> Refusal:
        return Refusal(self.subject, rule, reason, remedy, blockers)

    def after(self, step: Step) -> "Case":
        """The case that a step leads to, if it does what it is to do."""
        return replace(self, now=_after(self.now, step, self.ask.joiner), steps=(*self.steps, step))


def open_case(now: Assessment, ask: Ask, policy: Policy) -> Case:
    """The case that the guard begins with."""
    target = now.of(ask.member_id)
    who = _asked_for(ask) if target is None or ask.verb == "add" else target.seat.name
    return Case(now, ask, policy, f"{ask.verb} {who}".rstrip())


def _asked_for(ask: Ask) -> str:
    if ask.verb == "add" and ask.joiner is not None:
        return f"{ask.joiner.name} at {', '.join(ask.joiner.peer_urls)}"
    return f"member {hex_id(ask.member_id)}" if ask.member_id else ""


def _after(now: Assessment, step: Step, joiner: Joiner | None) -> Assessment:
    if step.act == "remove":
        return replace(now, members=tuple(one for one in now.members if one.member_id != step.member_id))
    if step.act == "add-learner" and joiner is not None:
        seat = Seat(Member(JOINER, joiner.name, joiner.peer_urls, (), is_learner=True))
        return replace(now, members=(*now.members, Judged(seat, is_voter=False, condition="healthy")))
    if step.act == "promote":
        voting = tuple(replace(one, is_voter=True) if one.member_id == step.member_id else one for one in now.members)
        return replace(now, members=voting)
    if step.act == "move-leader" and now.leader is not None:
        return replace(now, leader=Leader(step.member_id, now.leader.term + 1, now.leader.applied_index))
    return now
