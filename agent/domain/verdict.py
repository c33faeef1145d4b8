"""What the guard says to a membership change, and the one way in which that is told: in a dry run, a log, a result.

The rules have the numbers of the runbook. What etcd itself answers to a change that the guard allowed has the last
three: `etcd_refuses`, `etcd_unsure`.
"""

from dataclasses import dataclass
from typing import Literal

from agent.domain.cluster import hex_id

Rule = Literal[
    "I1", "I2", "I3", "G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "J4",
    "no-space", "paused", "target",
]  # fmt: skip
RULES: dict[Rule, str] = {
    "I1": "a member is named by two sources, and none contradicts",
    "I2": "a member is gone by a tombstone, or when every listed member is owned by another live instance",
    "I3": "who is not surely known is not touched",
    "G1": "a live voter goes only if the cluster then lacks one voter at most, and keeps its quorum",
    "G2": "a voter that is not needed for the quorum goes if it is dead",
    "G3": "a learner needs only leader, lock and identity to go",
    "G4": "a voter that never started counts as dead when no live instance has its peer host",
    "G5": "nothing is changed while another member is CORRUPT",
    "G6": "the only voter is never removed",
    "G7": "nothing is changed without a common leader and a known size",
    "G8": "a voter joins as a learner, one at a time, in sync, and not beside a dead voter",
    "G9": "a joiner is not older than the cluster, not two minor versions newer, and not in a downgrade",
    "G10": "etcd itself refuses",
    "G11": "a change whose outcome is unknown is looked for before anything else",
    "J4": "a learner that may still get there is not taken away by itself",
    "no-space": "nothing is changed while a member has the alarm NOSPACE, under which no lock can be had",
    "paused": "what is automatic waits while the cluster is paused",
    "target": "the member is none that this can be done to",
}
Act = Literal["move-leader", "remove", "add-learner", "await-sync", "promote", "defrag"]
JOINER = 0  # stands for the member that an earlier step of the same plan adds


@dataclass(frozen=True)
class Step:
    """One act on one member; `told` is the act in words. `await-sync` waits until the learner can be promoted."""

    act: Act
    member_id: int
    told: str
    peer_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Margin:
    """What a plan leaves: how many voters there are then, and how many of them are healthy."""

    voters: int
    healthy: int

    @property
    def told(self) -> str:
        needed = self.voters // 2 + 1
        spare = self.healthy - needed
        may = f"{spare} more may fail" if spare > 0 else "no further one may fail"
        return f"then {self.healthy} of {self.voters} voters healthy, quorum is {needed}: {may}"


@dataclass(frozen=True)
class Plan:
    """It may be done, by these steps; the guard is asked again before each. Without steps it is done already."""

    subject: str
    rule: Rule
    steps: tuple[Step, ...]
    margin: Margin
    warnings: tuple[str, ...] = ()

    allowed: Literal[True] = True


@dataclass(frozen=True)
class Refusal:
    """It must not be done now: by which rule, why, and what would make it safe.

    `blockers` are the members, by id, that would have to be healthy or removed for the verdict to change.
    """

    subject: str
    rule: Rule
    reason: str
    remedy: str
    blockers: tuple[int, ...] = ()

    allowed: Literal[False] = False


Verdict = Plan | Refusal


def etcd_refuses(subject: str, message: str) -> Refusal:
    """etcd's own check said no to what the guard allowed; just after a connection was made anew it does so for 5 s."""
    remedy = "try again in a few seconds; if it stays, etcd sees fewer connected voters than their answers tell"
    return Refusal(subject, "G10", f"etcd refuses: {message}", remedy)


def etcd_unsure(subject: str, message: str) -> Refusal:
    """The outcome of an act is unknown."""
    remedy = "list the members again: the change may have happened, or may still happen"
    return Refusal(subject, "G11", f"it is not known whether it was done: {message}", remedy)


def text(verdict: Verdict) -> str:
    """The verdict in one line for logs, results and people."""
    if isinstance(verdict, Refusal):
        return f"{verdict.subject}: refused by {verdict.rule}: {verdict.reason}; remedy: {verdict.remedy}"
    if not verdict.steps:
        return f"{verdict.subject}: nothing to do, it is so already"
    steps = ", ".join(f"{number}. {step.told}" for number, step in enumerate(verdict.steps, 1))
    warnings = "".join(f"; note: {warning}" for warning in verdict.warnings)
    return f"{verdict.subject}: allowed by {verdict.rule}: {steps}; {verdict.margin.told}{warnings}"


def fields(verdict: Verdict) -> dict[str, object]:
    """The same as a log line's or a result's own fields; `allowed` and `rule` are what a metric counts by."""
    told: dict[str, object] = {"allowed": verdict.allowed, "rule": verdict.rule, "verdict": text(verdict)}
    if isinstance(verdict, Refusal):
        return told | {"reason": verdict.reason, "remedy": verdict.remedy,
                       "blockers": [hex_id(one) for one in verdict.blockers]}  # fmt: skip
    steps = [{"act": step.act, "member_id": hex_id(step.member_id), "told": step.told} for step in verdict.steps]
    return told | {"steps": steps, "voters_after": verdict.margin.voters, "healthy_after": verdict.margin.healthy}
