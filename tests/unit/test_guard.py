"""The guard by named cases: what it says in the situations of the runbook, and attempts to make it lose a quorum."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.cluster import Alarm, AlarmKind
from agent.domain.guard import judge
from agent.domain.guard_ask import Ask, By, Joiner, Policy, Verb
from agent.domain.guard_upkeep import defrag_order
from agent.domain.member_health import assess, common_leader
from agent.domain.membership import Evidence, Seat, View, list_digest
from agent.domain.verdict import RULES, Plan, Refusal, Verdict, etcd_refuses, etcd_unsure, fields, text
from tests.unit.guard_worlds import CLUSTER_ID, MORE_STATES, TERM, World, member_id, view_of

JOINER = Joiner("new", ("https://10.0.9.9:2380",), "3.5.30")
VERBS: tuple[Verb, ...] = ("remove", "replace", "add", "promote", "move-leader", "defrag")
NOSPACE = (Alarm(member_id(0), AlarmKind.NOSPACE),)


def view(letters: str, alarms: tuple[Alarm, ...] = ()) -> View:
    return view_of(World(letters, "agreed"), alarms)


def remove(seen: View, place: int, size: int | None = 3, by: By = "operator", pause: str = "") -> Verdict:
    return judge(seen, Ask("remove", member_id(place), by=by), Policy(size, pause))


def rule(verdict: Verdict) -> str:
    return f"{'allowed' if verdict.allowed else 'refused'} {verdict.rule}"


def acts(verdict: Verdict) -> list[str]:
    assert isinstance(verdict, Plan), text(verdict)
    return [f"{step.act} {step.member_id - member_id(0) if step.member_id else 'new'}" for step in verdict.steps]


def changed(seen: View, place: int, **of_status: object) -> View:
    """The view with something else in one member's answer."""
    seat = seen.seats[place]
    assert seat.status is not None
    other = replace(seat, status=replace(seat.status, **of_status))  # type: ignore[arg-type]
    return replace(seen, seats=(*seen.seats[:place], other, *seen.seats[place + 1 :]))


def known(seen: View, place: int, evidence: Evidence) -> View:
    other = replace(seen.seats[place], evidence=evidence)
    return replace(seen, seats=(*seen.seats[:place], other, *seen.seats[place + 1 :]))


def test_of_three_one_goes_and_the_second_only_after_the_size_was_lowered() -> None:
    assert rule(remove(view("HHH"), 2)) == "allowed G1"
    second = remove(view("HH"), 1)
    assert isinstance(second, Refusal)
    assert second.rule == "G1"
    assert "let the missing voter join first" in second.remedy
    assert "member resize 1" in second.remedy
    assert rule(remove(view("HH"), 1, size=1)) == "allowed G1"
    assert rule(remove(view("H"), 0, size=1)) == "refused G6"


def test_two_dead_of_five_go_one_after_the_other() -> None:
    assert rule(remove(view("HHHDD"), 3, 5)) == "allowed G2"
    assert rule(remove(view("HHHD"), 3, 5)) == "allowed G2"
    assert rule(remove(view("HHH"), 2, 5)) == "refused G1"


def test_a_live_one_stays_while_another_is_dead_and_the_remedy_is_to_remove_that() -> None:
    verdict = remove(view("HHD"), 1)
    assert isinstance(verdict, Refusal)
    assert (verdict.rule, verdict.blockers) == ("G1", (member_id(2),))
    assert verdict.remedy.startswith("remove member a2 m2 first, which is silent, and its instance is terminated")


def test_the_leader_hands_over_to_the_most_caught_up_before_it_goes() -> None:
    seen = changed(changed(view("HHH"), 1, raft_applied_index=1_000_000), 2, raft_applied_index=1_000_001)
    assert acts(remove(seen, 0)) == ["move-leader 2", "remove 0"]


def test_what_is_silent_without_evidence_is_no_dead_one() -> None:
    silent = view("HHU")
    assert rule(remove(silent, 2, by="node")) == "refused G2"
    assert rule(remove(silent, 2)) == "allowed G1"  # by hand it goes like a live one
    stopped = known(silent, 2, Evidence(instances=("stopped",), silent_s=3600))
    assert rule(remove(stopped, 2, by="node")) == "refused G2"
    assert "its instance is stopped, it may come back" in text(remove(stopped, 2, by="node"))


@pytest.mark.parametrize(
    "evidence, dead",
    [
        (Evidence(instances=("terminated",), silent_s=60), True),
        (Evidence(instances=("terminated",), silent_s=59), False),
        (Evidence(instances=("not-found", "shutting-down"), silent_s=60), True),
        (Evidence(instances=("terminated", "running"), silent_s=3600), False),
        (Evidence(instances=("not-asked",), silent_s=3600), False),
        (Evidence(instances=(), silent_s=3600, holder="nobody"), False),
        (Evidence(declared_dead=True, silent_s=60), True),
        (Evidence(declared_dead=True, silent_s=0), False),
    ],
)
def test_dead_needs_positive_evidence_and_silence(evidence: Evidence, dead: bool) -> None:
    assert (assess(known(view("HHU"), 2, evidence)).members[2].condition == "dead") is dead


def test_who_answers_is_not_dead_whatever_is_said_of_its_instance() -> None:
    seen = known(view("HHH"), 2, Evidence(instances=("terminated",), declared_dead=True, silent_s=3600))
    assert assess(seen).members[2].condition == "healthy"


def test_a_corrupt_target_goes_and_beside_another_corrupt_one_nobody_does() -> None:
    assert rule(remove(view("HHC"), 2)) == "allowed G1"
    assert rule(remove(view("HHHC"), 1)) == "refused G5"
    assert acts(remove(view_of(World("HHC", "agreed", 2)), 2)) == ["move-leader 0", "remove 2"]
    assert "the alarm CORRUPT stays when its member is gone" in text(remove(view("HHC"), 2))
    assert rule(judge(view("HHC"), Ask("replace", member_id(2), JOINER), Policy(3))) == "refused G5"
    unlisted = view("HHH", (Alarm(0xDEAD, AlarmKind.CORRUPT),))
    assert rule(remove(unlisted, 1)) == "refused G5"
    assert "disarm the alarm by hand" in text(remove(unlisted, 1))


def test_nospace_refuses_changes_and_allows_the_cure_without_a_known_size() -> None:
    full = view("HHH", NOSPACE)
    assert rule(remove(full, 1)) == "refused no-space"
    assert rule(judge(full, Ask("add", joiner=JOINER), Policy(3))) == "refused no-space"
    assert acts(judge(full, Ask("defrag", member_id(0)), Policy(None))) == ["move-leader 1", "defrag 0"]
    alone = view("HU", NOSPACE)  # nobody but an operator can take that
    assert rule(judge(alone, Ask("defrag", member_id(0)), Policy(3))) == "refused G7"
    one_down = view("HHU", NOSPACE)
    assert rule(judge(one_down, Ask("defrag", member_id(1)), Policy(3))) == "refused G1"
    assert rule(judge(one_down, Ask("defrag", member_id(1), accept_stall=True), Policy(3))) == "allowed G1"
    assert rule(judge(view("H"), Ask("defrag", member_id(0)), Policy(1))) == "refused G1"
    assert acts(judge(view("H"), Ask("defrag", member_id(0), accept_stall=True), Policy(1))) == ["defrag 0"]


def test_what_is_automatic_waits_for_the_end_of_a_pause() -> None:
    assert rule(remove(view("HHD"), 2, by="trigger", pause="an upgrade")) == "refused paused"
    assert rule(remove(view("HHD"), 2, pause="an upgrade")) == "allowed G2"


def test_a_learner_goes_without_a_size_and_by_itself_only_when_it_is_an_orphan() -> None:
    seen = view("HHHl")
    assert rule(remove(seen, 3, size=None)) == "allowed G3"
    assert rule(remove(seen, 3, by="node")) == "refused J4"
    assert rule(remove(known(seen, 3, Evidence(stalled_s=900)), 3, by="node")) == "allowed G3"
    assert rule(remove(known(seen, 3, Evidence(holder="nobody")), 3, by="node")) == "allowed G3"


def test_a_healthy_one_is_replaced_after_the_new_one_votes_and_another_before() -> None:
    ask = Ask("replace", member_id(0), JOINER)
    healthy = judge(view("HHH"), ask, Policy(3))
    assert acts(healthy) == ["add-learner new", "await-sync new", "promote new", "move-leader 1", "remove 0"]
    dead = judge(view("HHD"), Ask("replace", member_id(2), JOINER), Policy(3))
    assert acts(dead) == ["remove 2", "add-learner new", "await-sync new", "promote new"]
    same_host = Joiner("m1", ("https://10.0.0.2:2380",))
    assert acts(judge(view("HHH"), Ask("replace", member_id(1), same_host), Policy(3)))[0] == "remove 1"
    only_one = acts(judge(view("H"), ask, Policy(1)))
    assert only_one == ["add-learner new", "await-sync new", "promote new", "move-leader new", "remove 0"]
    taken = judge(view("HHH"), Ask("replace", member_id(0), same_host), Policy(3))
    assert rule(taken) == "refused I1"


@pytest.mark.parametrize(
    "version, others, allowed",
    [("3.5.1", "3.5.30", True), ("3.6.0", "3.5.30", True), ("3.7.0", "3.5.30", False), ("3.4.9", "3.5.30", False),
     ("3.5.30", "3.6.1", True), ("", "3.5.30", True)],
)  # fmt: skip
def test_a_joiner_is_neither_older_nor_two_minors_newer(version: str, others: str, allowed: bool) -> None:
    seen = changed(changed(view("HHH"), 1, version=others), 2, version=others)
    verdict = judge(seen, Ask("add", joiner=replace(JOINER, version=version)), Policy(3))
    assert rule(verdict) == ("allowed G8" if allowed else "refused G9")
    assert rule(judge(replace(seen, downgrade_running=True), Ask("add", joiner=JOINER), Policy(3))) == "refused G9"
    assert rule(remove(replace(seen, downgrade_running=True), 1)) == "allowed G1"


def test_a_promotion_needs_sync_and_no_dead_voter() -> None:
    promote = Ask("promote", member_id(2))
    assert acts(judge(view("HHl"), promote, Policy(3))) == ["promote 2"]
    assert rule(judge(view("HHb"), promote, Policy(3))) == "refused G8"
    assert rule(judge(view("HHlD"), promote, Policy(3))) == "refused G8"
    assert acts(judge(view("HHH"), promote, Policy(3))) == []


def test_the_followers_are_defragmented_first() -> None:
    assert [one.member_id for one in defrag_order(assess(view("HHHl")))] == [member_id(1), member_id(2), member_id(0)]


# Attempts to have a quorum lost.


def test_a_learner_that_says_it_votes_counts_as_a_voter_and_is_not_let_go_as_a_learner() -> None:
    """A list may be older than a promotion: taken for a learner it would go without any look at the quorum."""
    seen = changed(view("HHl"), 2, is_learner=False)
    assert rule(remove(seen, 2)) == "refused G7"
    assert len(assess(seen).voters) == 3
    assert rule(remove(seen, 1)) == "refused G1"


def test_a_later_leader_named_by_a_minority_makes_the_majority_old() -> None:
    later = changed(view("HHHHH"), 4, leader=member_id(4), raft_term=TERM + 1)
    assert rule(remove(later, 1, 5)) == "refused G7"
    earlier = changed(view("HHHHH"), 4, leader=member_id(3), raft_term=TERM - 1)
    assert assess(earlier).members[4].condition == "unhealthy"
    assert rule(remove(earlier, 4, 5)) == "allowed G1"
    assert rule(remove(earlier, 1, 5)) == "refused G1"


def test_a_leader_that_does_not_say_so_itself_leads_nobody() -> None:
    assert isinstance(common_leader(changed(view("HHH"), 0, leader=0)), str)
    assert isinstance(common_leader(changed(view("HHHl"), 0, is_learner=True)), str) is False
    gone = view("HHH")
    assert rule(remove(replace(gone, seats=gone.seats[1:]), 1)) == "refused G7"


def test_one_process_behind_two_client_urls_is_one_healthy_voter() -> None:
    seen = changed(view("HHH"), 2, member_id=member_id(1))
    assert rule(remove(seen, 1)) == "refused G1"
    assert rule(remove(seen, 2)) == "allowed G1"


def test_a_member_of_another_cluster_is_no_healthy_voter() -> None:
    assert rule(remove(changed(view("HHH"), 2, cluster_id=CLUSTER_ID + 1), 1)) == "refused G1"


def test_an_old_list_is_no_ground_for_anything() -> None:
    assert rule(remove(replace(view("HHH"), confirmed=False), 1)) == "refused G7"


def test_nobody_is_judged_by_an_id_that_is_not_listed() -> None:
    assert rule(judge(view("HHH"), Ask("remove", 0xBEEF), Policy(3))) == "refused I3"
    assert rule(judge(view("HHH"), Ask("remove", 0), Policy(3))) == "refused I3"


@given(st.text(MORE_STATES, min_size=1, max_size=6), st.sampled_from([None, 1, 3, 5]), st.data())
def test_the_order_of_the_list_changes_no_verdict(letters: str, size: int | None, data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(letters))))
    seen = view(letters)
    other = replace(seen, seats=tuple(seen.seats[place] for place in places))
    for place in places:
        for verb in VERBS:
            ask = Ask(verb, member_id(place), JOINER)
            one, same = judge(seen, ask, Policy(size)), judge(other, ask, Policy(size))
            assert (one.allowed, one.rule) == (same.allowed, same.rule)


@given(st.text(MORE_STATES, min_size=2, max_size=6), st.sampled_from([1, 3, 5]), st.data())
def test_a_member_that_gets_worse_never_makes_a_removal_safe(letters: str, size: int, data: st.DataObject) -> None:
    place, target = (data.draw(st.integers(0, len(letters) - 1)) for _ in range(2))
    worse = letters[:place] + data.draw(st.sampled_from("LUD")) + letters[place + 1 :]
    if letters[place] == "H" and place != target and place:
        before, after = remove(view(letters), target, size), remove(view(worse), target, size)
        assert before.allowed or not after.allowed


@given(st.text("HLUDn", min_size=2, max_size=7), st.sampled_from([1, 3, 5]), st.data())
def test_without_its_blockers_a_refused_removal_is_allowed(letters: str, size: int, data: st.DataObject) -> None:
    """The remedy is true: with the blockers repaired, and the missing voters there, the same is allowed."""
    letters = "H" + letters
    target = data.draw(st.integers(0, len(letters) - 1))
    verdict = remove(view(letters), target, size)
    if isinstance(verdict, Refusal) and verdict.rule in ("G1", "G2", "G4"):
        blockers = {one - member_id(0) for one in verdict.blockers}
        repaired = "".join("H" if place in blockers else letter for place, letter in enumerate(letters))
        assert remove(view(repaired + "H" * max(0, size - len(letters))), target, size).allowed


@given(st.text(MORE_STATES, min_size=1, max_size=5), st.sampled_from([None, 3]))
def test_every_verdict_is_told_in_one_line_and_by_a_known_rule(letters: str, size: int | None) -> None:
    for verb in VERBS:
        verdict = judge(view(letters), Ask(verb, member_id(0), JOINER), Policy(size))
        assert verdict.rule in RULES
        assert "\n" not in text(verdict)
        assert fields(verdict)["verdict"] == text(verdict)


def test_how_verdicts_read() -> None:
    assert text(remove(view("HHH"), 0)) == (
        "remove member a0 m0: allowed by G1: 1. move the leadership to member a1 m1, 2. remove member a0 m0; "
        "then 2 of 2 voters healthy, quorum is 2: no further one may fail"
    )
    assert text(remove(view("HHU"), 1)) == (
        "remove member a1 m1: refused by G1: without member a1 m1 1 healthy voters are left of the 3 that the cluster "
        "is meant to have, and one absence at a time is allowed; remedy: repair member a2 m2, which does not answer "
        "(it refuses the connection)"
    )
    assert text(judge(view("HHH"), Ask("promote", member_id(1)), Policy(3))).endswith("it is so already")
    assert text(etcd_refuses("remove member a1", "unhealthy cluster")).startswith(
        "remove member a1: refused by G10: etcd"
    )
    assert etcd_unsure("remove member a1", "context deadline exceeded").rule == "G11"


def test_the_digest_of_a_list_goes_by_members_urls_and_votes() -> None:
    members = [seat.member for seat in view("HHl").seats]
    assert list_digest(members) == list_digest(reversed(members))
    assert list_digest(members) != list_digest(members[:2])
    assert list_digest(members) != list_digest([*members[:2], replace(members[2], is_learner=False)])
    assert Seat(members[0]).name == "member a0 m0"
