"""The guard against every small world: never less safe, and no needless refusal.

`--guard-members 7` goes through all worlds of up to seven members; fewer without it, as the tests are to be quick.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from agent.domain.guard import judge_assessed
from agent.domain.guard_ask import Ask, Joiner, Policy, Verb
from agent.domain.member_health import Assessment, assess
from agent.domain.verdict import JOINER, Plan, Refusal, Verdict
from tests.unit.guard_oracle import forbidding, has_leader
from tests.unit.guard_worlds import World, member_id, view_of, worlds

JOINING = Joiner("new", ("https://10.0.9.9:2380",), "3.5.30")
VERBS: tuple[Verb, ...] = ("remove", "replace", "add", "promote", "move-leader", "defrag")
SIZES = (None, 1, 3, 5, 7)


def targets(world: World) -> Iterator[int]:
    """One place of each kind; among those of one letter the leader is a kind of its own."""
    seen = set()
    for place, letter in enumerate(world.letters):
        kind = (letter, world.naming == "agreed" and place == world.lead)
        if kind not in seen:
            seen.add(kind)
            yield place


def asks(world: World) -> Iterator[tuple[str, int | None, Ask]]:
    for verb in VERBS:
        if verb == "add":
            yield verb, None, Ask("add", joiner=JOINING)
            continue
        for place in targets(world):
            yield verb, place, Ask(verb, member_id(place), JOINING)


def unsafe(world: World, plan: Plan, size: int | None) -> str:
    """What a plan does that it must not, found by doing its steps one by one on plain sets; empty where nothing is."""
    voting = {member_id(place) for place, letter in enumerate(world.letters) if letter not in "lb"}
    healthy = {member_id(place) for place, letter in enumerate(world.letters) if letter == "H"}
    dead = {member_id(place) for place, letter in enumerate(world.letters) if letter in "Dn"}
    leader = member_id(world.lead)
    for step in plan.steps:
        one = step.member_id
        if step.act == "remove":
            was_voting, was_live = one in voting, one not in dead
            voting, healthy = voting - {one}, healthy - {one}
            if one == leader:
                return f"the leader goes while it leads: {step}"
            if not was_voting:
                continue
            if was_live and size is not None and size - len(healthy) > 1:
                return f"a second absence: {step}"
        elif step.act == "promote":
            voting, healthy = voting | {one}, healthy | {one}
            if dead & voting:
                return f"a promotion beside the dead: {step}"
        elif step.act == "move-leader":
            leader = one
            if one not in healthy:
                return f"leads and is not healthy: {step}"
            continue
        elif step.act == "defrag":
            if one == leader and len(voting) > 1:
                return f"the leader stalls: {step}"
            if len(healthy - {one}) < len(voting) // 2 + 1:
                return f"no quorum while it stalls: {step}"
            continue
        else:
            continue
        if len(healthy) < len(voting) // 2 + 1:
            return f"fewer healthy voters than the quorum: {step}"
    return "" if JOINER not in voting or "add-learner" in [step.act for step in plan.steps] else "promoted nobody"


def wrong(world: World, now: Assessment, verb: str, place: int | None, ask: Ask, size: int | None) -> str:
    verdict: Verdict = judge_assessed(now, ask, Policy(size))
    against = forbidding(world, verb, place, size)
    if isinstance(verdict, Refusal):
        return "" if verdict.rule in against else f"refused by {verdict.rule}, and the design by {against or 'nothing'}"
    return f"allowed in spite of {against}" if against else unsafe(world, verdict, size)


def test_every_small_world_is_judged_as_the_design_says_and_no_plan_is_unsafe(request: pytest.FixtureRequest) -> None:
    judged, found = Counter[str](), []
    for world in worlds(request.config.getoption("--guard-members")):
        now = assess(view_of(world))
        for size in SIZES if has_leader(world) else (None, 3):
            for verb, place, ask in asks(world):
                judged[verb] += 1
                fault = wrong(world, now, verb, place, ask, size)
                if fault:
                    found.append(f"{world}, size {size}: {verb} {place}: {fault}")
    assert found[:20] == []
    assert min(judged.values()) > 1000
