"""What may be pruned: rules by example, against a second formulation, and properties over random stores."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.retention import ClassRule, Held, Verdict, plan
from agent.domain.snapshot import RETENTION_CLASSES, RetentionClass

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
RULES: dict[RetentionClass, ClassRule] = {
    "hourly": ClassRule(2, timedelta(days=1)),
    "daily": ClassRule(2, timedelta(days=3)),
    "weekly": ClassRule(1, timedelta(days=10)),
    "monthly": ClassRule(3, timedelta(days=60)),
    "emergency": ClassRule(1, timedelta(days=30)),
}


def held(
    age_h: float, kind: RetentionClass = "hourly", *, good: bool = True, sound: bool | None = None,
    cluster: str = "prod", locked_h: float | None = None, number: int = 0,
) -> Held:  # fmt: skip
    locked_until = None if locked_h is None else NOW + timedelta(hours=locked_h)
    requested_at = NOW - timedelta(hours=age_h)
    identifier = f"{requested_at:%Y%m%dT%H%M%SZ}-{number:08x}"
    return Held(identifier, kind, cluster, requested_at, good, good if sound is None else sound, locked_until)


def decide(*rows: Held, now: datetime = NOW) -> dict[str, bool]:
    return {verdict.held.snapshot_id: verdict.keep for verdict in plan(rows, cluster="prod", now=now, rules=RULES)}


def reasons(*rows: Held) -> list[str]:
    return [verdict.reason for verdict in plan(rows, cluster="prod", now=NOW, rules=RULES)]


def test_the_newest_good_stays_whatever_its_age() -> None:
    old = held(100_000)
    assert decide(old) == {old.snapshot_id: True}
    assert reasons(old) == ["it is the newest good snapshot"]


def test_the_newest_good_is_not_the_newest_damaged() -> None:
    old, damaged = held(5000), held(4000, good=False)
    assert decide(old, damaged) == {old.snapshot_id: True, damaged.snapshot_id: False}


def test_counts_go_by_class_and_by_good_ones_alone() -> None:
    rows = [held(50), held(51, good=False), held(52), held(53)]
    assert list(decide(*rows).values()) == [True, False, True, False]


def test_emergency_ones_are_never_good_and_stay_by_count() -> None:
    rows = [held(800 + hour, "emergency", good=False, sound=True) for hour in range(3)]
    assert list(decide(*rows).values()) == [True, False, False]


def test_nothing_younger_than_its_least_age_goes() -> None:
    rows = [held(hours / 10) for hours in range(200)]
    assert all(decide(*rows).values())


def test_a_locked_one_stays_until_its_lock_ends() -> None:
    rows = [held(50), held(60), held(70, locked_h=1), held(80, locked_h=-1)]
    assert list(decide(*rows).values()) == [True, True, True, False]
    assert reasons(*rows)[2] == "it is locked until 2026-11-24T13:00:00Z"


def test_another_clusters_snapshots_are_not_touched_and_do_not_count() -> None:
    rows = [held(50, cluster="other"), held(51, cluster="other"), held(52, cluster="other"), held(500), held(501)]
    assert all(decide(*rows).values())


def test_a_snapshot_from_a_time_to_come_does_not_take_the_place_of_the_newest() -> None:
    ahead, newest, older, oldest = held(-5000), held(2000), held(2001), held(2002)
    assert list(decide(ahead, newest, older, oldest).values()) == [True, True, False, False]


def test_a_clock_that_jumps_ahead_leaves_the_counts() -> None:
    rows = [held(hours) for hours in range(48)]
    kept = decide(*rows, now=NOW + timedelta(days=3650))
    assert sum(kept.values()) == RULES["hourly"].count


def test_each_verdict_says_why() -> None:
    rows = [held(1), held(30), held(31), held(32), held(33, good=False)]
    assert reasons(*rows) == [
        "it is the newest good snapshot",
        "it is among the newest 2 hourly ones",
        "2 newer hourly ones stay, and it is older than 1 day",
        "2 newer hourly ones stay, and it is older than 1 day",
        "it is not sound, and older than 1 day",
    ]


rows_of_stores = st.lists(
    st.builds(
        held,
        st.one_of(st.integers(-200, 3000), st.sampled_from([24, 72, 240, 1440, 720])),
        st.sampled_from(RETENTION_CLASSES),
        good=st.booleans(),
        sound=st.sampled_from([None, True]),
        cluster=st.sampled_from(["prod", "prod", "prod", "other"]),
        locked_h=st.one_of(st.none(), st.integers(-100, 100)),
        number=st.integers(0, 2**32 - 1),
    ),
    max_size=40,
    unique_by=lambda row: row.snapshot_id,
)


def by_the_rules(rows: list[Held], row: Held, now: datetime) -> bool:
    """A second formulation: whether one stays, asked of each by itself."""
    if row.cluster != "prod":
        return True
    mine = [other for other in rows if other.cluster == "prod"]
    newer = [other for other in mine if (other.requested_at, other.snapshot_id) > (row.requested_at, row.snapshot_id)]
    newer_good = [other for other in newer if other.is_good]
    if row.is_good and not newer_good:
        return True
    if row.is_good and row.requested_at <= now and all(other.requested_at > now for other in newer_good):
        return True
    if row.locked_until and row.locked_until > now:
        return True
    rule = RULES[row.retention_class]
    if row.requested_at > now - rule.least_age:
        return True
    same_class = [other for other in newer if other.retention_class == row.retention_class and other.is_sound]
    return row.is_sound and len(same_class) < rule.count


@given(rows_of_stores)
def test_the_plan_is_that_of_the_second_formulation(rows: list[Held]) -> None:
    for verdict in plan(rows, cluster="prod", now=NOW, rules=RULES):
        assert verdict.keep == by_the_rules(rows, verdict.held, NOW), verdict


@given(rows_of_stores, st.integers(0, 5000))
def test_no_plan_lets_the_newest_good_go(rows: list[Held], later_h: int) -> None:
    now = NOW + timedelta(hours=later_h)
    kept = kept_of(plan(rows, cluster="prod", now=now, rules=RULES))
    good = [row for row in rows if row.is_good and row.cluster == "prod"]
    if good:
        assert max(good, key=lambda row: (row.requested_at, row.snapshot_id)) in kept


@given(rows_of_stores)
def test_a_second_plan_lets_nothing_more_go(rows: list[Held]) -> None:
    kept = kept_of(plan(rows, cluster="prod", now=NOW, rules=RULES))
    assert kept_of(plan(kept, cluster="prod", now=NOW, rules=RULES)) == kept


@given(rows_of_stores, st.integers(0, 5000), st.integers(0, 5000))
def test_what_is_kept_shrinks_only_with_time(rows: list[Held], first_h: int, second_h: int) -> None:
    sooner, later = sorted((NOW + timedelta(hours=first_h), NOW + timedelta(hours=second_h)))
    kept_sooner = kept_of(plan(rows, cluster="prod", now=sooner, rules=RULES))
    kept_later = kept_of(plan(rows, cluster="prod", now=later, rules=RULES))
    assert set(kept_later) <= set(kept_sooner)


@given(rows_of_stores, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(rows: list[Held], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(shuffled, cluster="prod", now=NOW, rules=RULES) == plan(rows, cluster="prod", now=NOW, rules=RULES)


@pytest.mark.parametrize("kind", RETENTION_CLASSES)
def test_every_class_has_its_rule(kind: RetentionClass) -> None:
    rule = RULES[kind]
    rows = [held(rule.least_age.total_seconds() / 3600 + hour, kind) for hour in range(1, rule.count + 3)]
    assert sum(decide(*rows).values()) == rule.count


def kept_of(verdicts: list[Verdict]) -> list[Held]:
    return [verdict.held for verdict in verdicts if verdict.keep]
