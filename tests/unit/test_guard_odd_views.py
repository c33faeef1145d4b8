"""The guard on views that no sound cluster gives: answers of others, contradicting roles, old terms, stray alarms.

Whatever comes, what is allowed leaves a quorum of members that are healthy by the plainest reading of their answers.
"""

import random
from dataclasses import dataclass

import pytest

from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member
from agent.domain.guard import judge
from agent.domain.guard_ask import Ask, Joiner, Policy, Verb
from agent.domain.membership import Evidence, Holder, InstanceState, Seat, View
from agent.domain.verdict import Plan

CLUSTER_ID, TERM, APPLIED = 1, 7, 100_000
VERBS: tuple[Verb, ...] = ("remove", "replace", "promote", "move-leader", "defrag")
INSTANCES: tuple[tuple[InstanceState, ...], ...] = ((), ("terminated",), ("running",), ("terminated", "running"))
HOLDERS: tuple[Holder, ...] = ("live", "nobody", "unknown")
VIEWS = 6000


@dataclass(frozen=True)
class Odd:
    """Draws views that are mostly sound, with a few things wrong in each."""

    random: random.Random

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def view(self) -> View:
        ids = range(1, self.random.randint(1, 6) + 1)
        leader = self.random.choice(ids)
        kinds = (AlarmKind.NOSPACE, AlarmKind.CORRUPT)
        stray = Alarm(self.random.choice([*ids, 99]), self.random.choice(kinds))
        seats = tuple(self.seat(one, ids, leader) for one in ids)
        return View(CLUSTER_ID, seats, (stray,) if self.chance(0.15) else (), confirmed=self.chance(0.97))

    def seat(self, own: int, ids: range, leader: int) -> Seat:
        name = "" if self.chance(0.08) else f"m{own}"
        learner = self.chance(0.15)
        member = Member(own, name, (f"https://h{own}:2380",), (f"https://h{own}:2379",), learner)
        evidence = Evidence(
            self.random.choice(INSTANCES), self.chance(0.1), self.random.choice([0, 59, 60, 1000]),
            self.random.choice(HOLDERS),
        )  # fmt: skip
        if self.chance(0.15):
            return Seat(member, None, "", evidence)
        status = EndpointStatus(
            endpoint="", cluster_id=CLUSTER_ID if self.chance(0.95) else 2,
            member_id=own if self.chance(0.95) else self.random.choice(ids), version="3.5.30", revision=1,
            leader=leader if self.chance(0.9) else self.random.choice([0, *ids]),
            raft_term=TERM if self.chance(0.93) else self.random.choice([TERM - 1, TERM + 1]),
            raft_applied_index=APPLIED if self.chance(0.9) else 1, db_size_bytes=1,
            is_learner=learner if self.chance(0.95) else not learner,
        )  # fmt: skip
        return Seat(member, status, "", evidence)


def is_itself(seat: Seat) -> bool:
    return seat.status is not None and (seat.status.member_id, seat.status.cluster_id) == (
        seat.member.member_id,
        CLUSTER_ID,
    )


def unsafe(view: View, plan: Plan, size: int | None) -> str:
    """The step that leaves too few, by what each member says of itself; empty where none does."""
    answering = {seat.member.member_id for seat in view.seats if is_itself(seat)}
    voting = {one.member.member_id for one in view.seats if not one.member.is_learner}
    voting |= {
        one.member.member_id for one in view.seats if is_itself(one) and one.status and not one.status.is_learner
    }
    corrupt = {alarm.member_id for alarm in view.alarms if alarm.kind is AlarmKind.CORRUPT}
    healthy = {
        seat.member.member_id for seat in view.seats
        if seat.member.member_id in answering - corrupt and seat.member.name and not seat.member.is_learner
        and seat.status is not None and not seat.status.is_learner and seat.status.leader
    }  # fmt: skip
    for step in plan.steps:
        if step.act == "remove" and step.member_id in voting:
            voting, healthy = voting - {step.member_id}, healthy - {step.member_id}
            if step.member_id in answering and size is not None and size - len(healthy) > 1:
                return f"a second absence: {step}"
        elif step.act == "promote":
            voting, healthy = voting | {step.member_id}, healthy | {step.member_id}
        stalls = {step.member_id} if step.act == "defrag" else set()
        if step.act in ("remove", "promote", "defrag") and len(healthy - stalls) < len(voting) // 2 + 1:
            changes_votes = step.act != "remove" or plan.rule != "G3"
            if changes_votes:
                return f"no quorum: {step}"
    return ""


@pytest.mark.parametrize("seed", range(3))
def test_no_odd_view_makes_an_unsafe_plan(seed: int) -> None:
    odd, allowed = Odd(random.Random(seed)), 0
    for _ in range(VIEWS):
        view = odd.view()
        target, size = odd.random.choice(view.seats).member.member_id, odd.random.choice([None, 1, 3, 5])
        ask = Ask(odd.random.choice(VERBS), target, Joiner("new", ("https://new:2380",)))
        verdict = judge(view, ask, Policy(size))
        if isinstance(verdict, Plan) and verdict.steps:
            allowed += 1
            assert unsafe(view, verdict, size) == "", (view, ask, size)
    assert allowed > 200
