"""Which member a snapshot is read from: a local follower, else the fittest, a leader last, nobody only if none fits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import cluster
from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member
from agent.domain.cluster_health import Answer, ClusterView
from agent.domain.snapshot_source import MOST_LAG_ENTRIES, Choice, Ranking, against_local, rank
from tests.unit.fakes import OTHER, OWN, STATUS, THIRD, member

IDS = (OWN, OTHER, THIRD)
RULES = {"endpoint-not-listed", "learner", "corrupt", "no-leader"}


def status_of(member_id: int, **changes: object) -> EndpointStatus:
    number = IDS.index(member_id) + 1 if member_id in IDS else 9
    made = replace(STATUS, member_id=member_id, endpoint=f"https://10.0.0.{number}:2379")
    return replace(made, **changes)  # type: ignore[arg-type]


def view_of(*answers: EndpointStatus | str, alarms: tuple[Alarm, ...] = ()) -> ClusterView:
    """The own member's answer first; a text is why a member does not answer."""
    own = answers[0]
    assert isinstance(own, EndpointStatus)
    listed = [member(member_id, number) for number, member_id in enumerate(IDS, 1)]
    made = [
        Answer(one, None, answer) if isinstance(answer, str) else Answer(one, answer)
        for one, answer in zip(listed, answers, strict=True)
    ]
    return ClusterView(own, made, alarms)


def led_by_own(*others: EndpointStatus | str, alarms: tuple[Alarm, ...] = ()) -> ClusterView:
    """This node's member leads; the two others are as given, and name it."""
    named = [one if isinstance(one, str) else replace(one, leader=one.leader and OWN) for one in others]
    return view_of(replace(STATUS, leader=OWN), *named, alarms=alarms)


def order(ranking: Ranking) -> list[int]:
    assert all(choice.why for choice in ranking.choices)
    return [choice.status.member_id for choice in ranking.choices]


def test_the_local_follower_goes_before_a_newer_one() -> None:
    newer = status_of(THIRD, raft_applied_index=STATUS.raft_applied_index + 5)
    assert order(rank(view_of(STATUS, status_of(OTHER), newer))) == [OWN, THIRD, OTHER]


def test_a_local_leader_leaves_it_to_the_newest_follower_and_comes_after_all_of_them() -> None:
    newer = status_of(THIRD, raft_applied_index=STATUS.raft_applied_index + 5)
    assert order(rank(led_by_own(status_of(OTHER), newer))) == [THIRD, OTHER, OWN]


def test_a_follower_of_another_minor_comes_after_one_that_the_local_tools_are_of() -> None:
    newer = status_of(THIRD, raft_applied_index=STATUS.raft_applied_index + 5, version="3.6.1")
    assert order(rank(led_by_own(status_of(OTHER), newer))) == [OTHER, THIRD, OWN]


@pytest.mark.parametrize(
    "unfit, why",
    [
        ("tls: bad certificate", "does not answer: tls: bad certificate"),
        (status_of(OTHER, is_learner=True), "is a learner"),
        (status_of(OWN), "is answered for by member 8000000000000001"),
        (status_of(OTHER, cluster_id=7), "of cluster 7"),
        (status_of(OTHER, leader=0), "knows no leader"),
        (status_of(OTHER, raft_term=1), "of the older term 1"),
        (status_of(OTHER, raft_applied_index=0), "entries behind"),
    ],
)
def test_who_is_not_fit_is_passed_over_with_the_reason(unfit: EndpointStatus | str, why: str) -> None:
    own_index = MOST_LAG_ENTRIES + 1 if why == "entries behind" else STATUS.raft_applied_index
    ranking = rank(led_by_own(unfit, status_of(THIRD, raft_applied_index=own_index)))
    assert order(ranking) == [THIRD, OWN]
    (passed,) = ranking.passed_over
    assert (passed.member.member_id, why in passed.why) == (OTHER, True), passed.why


def test_a_learner_by_the_list_alone_is_never_read_nor_is_its_leader_believed() -> None:
    """3.4 and 3.5 leave `isLearner` out of the status of some members."""
    view = led_by_own(status_of(OTHER, raft_term=3), status_of(THIRD))
    listed = [
        replace(one, member=replace(one.member, is_learner=one.member.member_id == OTHER)) for one in view.answers
    ]
    ranking = rank(replace(view, answers=listed))
    assert order(ranking) == [THIRD, OWN]
    assert [one.why for one in ranking.passed_over] == ["is a learner"]


def test_a_lag_up_to_the_bound_is_none() -> None:
    ranking = rank(led_by_own(status_of(OTHER, raft_applied_index=0), status_of(THIRD, raft_applied_index=1000)))
    assert order(ranking) == [THIRD, OTHER, OWN]


def test_a_corrupt_member_is_never_read_whoever_it_is() -> None:
    ranking = rank(led_by_own(status_of(OTHER), status_of(THIRD), alarms=(Alarm(OTHER, AlarmKind.CORRUPT),)))
    assert order(ranking) == [THIRD, OWN]
    ranking = rank(view_of(STATUS, status_of(OTHER), status_of(THIRD), alarms=(Alarm(OWN, AlarmKind.CORRUPT),)))
    assert order(ranking) == [THIRD, OTHER]  # the other one leads
    assert ranking.choices[1].status.is_leader


def test_a_full_database_is_read_all_the_same() -> None:
    alarms = tuple(Alarm(one, AlarmKind.NOSPACE) for one in IDS)
    assert order(rank(view_of(STATUS, status_of(OTHER), status_of(THIRD), alarms=alarms))) == [OWN, THIRD, OTHER]


def test_a_local_member_of_an_older_term_leaves_it_to_the_others() -> None:
    newer = [status_of(one, raft_term=3, leader=THIRD) for one in (OTHER, THIRD)]
    assert order(rank(view_of(STATUS, *newer))) == [OTHER, THIRD]


def test_a_local_member_that_was_removed_leaves_it_to_the_others() -> None:
    view = view_of(STATUS, status_of(OTHER), status_of(THIRD))
    ranking = rank(replace(view, answers=view.answers[1:]))
    assert order(ranking) == [THIRD, OTHER]
    assert ranking.against_local is not None
    assert ranking.against_local.rule == "endpoint-not-listed"


@pytest.mark.parametrize(
    "own, alarms, rule",
    [
        (replace(STATUS, is_learner=True), (), "learner"),
        (replace(STATUS, leader=0), (), "no-leader"),
        (STATUS, (Alarm(OWN, AlarmKind.CORRUPT),), "corrupt"),
    ],
)
def test_where_none_is_fit_the_local_rule_and_each_others_reason_are_told(
    own: EndpointStatus, alarms: tuple[Alarm, ...], rule: str
) -> None:
    refusal = rank(view_of(own, "2 is away", status_of(THIRD, is_learner=True), alarms=alarms)).refusal()
    assert refusal.rule == rule
    assert "node-2 does not answer: 2 is away; " in refusal.message
    assert "node-3 is a learner" in refusal.message
    assert refusal.hint


def test_what_is_known_before_the_member_list_stands_against_the_local_member_already() -> None:
    assert against_local(STATUS, None, ()) is None
    found = against_local(replace(STATUS, leader=0), None, ())
    assert found is not None
    assert found.rule == "no-leader"


STATUSES = st.builds(
    EndpointStatus,
    endpoint=st.just("https://x:2379"), cluster_id=st.sampled_from([7, 8]), member_id=st.sampled_from([*IDS, 4]),
    version=st.sampled_from(["3.5.16", "3.6.1", ""]), revision=st.integers(0, 9), leader=st.sampled_from([0, *IDS]),
    raft_term=st.integers(1, 3), raft_applied_index=st.sampled_from([0, 9, 1009, 5000]), db_size_bytes=st.just(1),
    is_learner=st.booleans(),
)  # fmt: skip
MEMBERS = st.builds(
    Member, member_id=st.sampled_from([*IDS, 4]), name=st.sampled_from(["", "a"]), peer_urls=st.just(()),
    client_urls=st.just(()), is_learner=st.booleans(),
)  # fmt: skip
ANSWERS = st.lists(
    st.builds(Answer, MEMBERS, st.none() | STATUSES), max_size=4, unique_by=lambda one: one.member.member_id
)
ALARMS = st.lists(st.builds(Alarm, st.sampled_from(IDS), st.sampled_from(AlarmKind)), max_size=3)


@st.composite
def views(draw: st.DrawFn) -> ClusterView:
    """Any answers; the local member's is what it said of itself."""
    own = draw(STATUSES)
    answers = [replace(one, status=own) if one.member.member_id == own.member_id else one for one in draw(ANSWERS)]
    return ClusterView(own, answers, draw(ALARMS))


def is_fit(choice: Choice, view: ClusterView) -> bool:
    status = choice.status
    corrupt = {alarm.member_id for alarm in view.alarms if alarm.kind is AlarmKind.CORRUPT}
    return (
        not choice.member.is_learner and not status.is_learner and status.leader != 0
        and status.member_id == choice.member.member_id not in corrupt and status.cluster_id == view.own.cluster_id
    )  # fmt: skip


@given(views())
def test_no_choice_is_ever_unfit_and_a_leader_is_never_before_a_follower(view: ClusterView) -> None:
    ranking = rank(view)
    assert all(is_fit(choice, view) for choice in ranking.choices)
    leads = [choice.status.is_leader for choice in ranking.choices]
    assert leads == sorted(leads)
    assert len({(choice.status.leader, choice.status.raft_term) for choice in ranking.choices}) <= 1
    followers = [choice for choice in ranking.choices if not choice.status.is_leader]
    assert all(not choice.is_local for choice in followers[1:])


@given(views())
def test_it_is_refused_only_if_none_is_fit_by_a_known_rule(view: ClusterView) -> None:
    ranking = rank(view)
    passed = {one.member.member_id for one in ranking.passed_over}
    assert passed.isdisjoint(order(ranking))
    others = {answer.member.member_id for answer in view.answers} - {view.own.member_id}
    assert others == (passed | set(order(ranking))) - {view.own.member_id}
    if not ranking.choices:
        assert ranking.refusal().rule in RULES


@given(views(), st.randoms())
def test_the_order_of_the_member_list_changes_nothing(view: ClusterView, random: object) -> None:
    shuffled = list(view.answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order(rank(replace(view, answers=shuffled))) == order(rank(view))


def test_addresses_to_listen_on_are_none_to_go_to_and_loopback_is_for_the_answer_to_tell() -> None:
    urls = (
        "https://0.0.0.0:2379", "https://[::]:2379", "https://127.0.0.1:2379", "https://localhost:2379", "https://",
        "https://[bad:2379", "", "https://10.0.0.2:2379", "https://[fd00::1]:2379",
    )  # fmt: skip
    usable = cluster.usable_urls(replace(member(OTHER, 2), client_urls=urls))
    assert usable == (urls[2], urls[3], urls[7], urls[8])
