"""How far a backup was verified; the reasons why it is not good say nothing where it is, and only there."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.snapshot import Check, Level, Outcome
from agent.domain.soundness import (
    LADDER,
    found_damaged,
    found_different,
    highest_passed,
    last_read_back,
    why_not_good,
)
from tests.unit.test_snapshot_domain import GOOD, REQUESTED_AT, backup, verification

LEVELS: st.SearchStrategy[Level] = st.sampled_from(["trailer", "structure", "fresh", "stored", "content", "drill"])
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["passed", "failed", "unavailable", "skipped"])


@given(st.dictionaries(LEVELS, OUTCOMES), st.booleans(), st.lists(OUTCOMES, max_size=2))
def test_there_is_a_reason_exactly_where_a_backup_is_not_good(
    outcomes: dict[Level, Outcome], mostly_good: bool, later: Sequence[Outcome]
) -> None:
    made = backup(outcomes=(GOOD if mostly_good else {}) | outcomes or {"drill": "passed"}, later=[
        verification(outcome) for outcome in later
    ])  # fmt: skip
    assert (why_not_good(made) == []) is made.is_good


@given(st.dictionaries(LEVELS, OUTCOMES, min_size=1), st.lists(OUTCOMES, max_size=3))
def test_the_highest_level_is_one_that_passed_and_none_above_it_did(
    outcomes: dict[Level, Outcome], later: Sequence[Outcome]
) -> None:
    made = backup(outcomes=outcomes, later=[verification(outcome) for outcome in later])
    passed = {level for level, outcome in outcomes.items() if outcome == "passed"}
    passed |= {"structure" for outcome in later if outcome == "passed"}  # which is what `verification` verifies
    highest = highest_passed(made)
    assert (highest is None) == (passed == set())
    assert highest is None or highest.level == max(passed, key=LADDER.index)
    assert (found_damaged(made) != "") == any(outcome != "passed" for outcome in later)
    assert (last_read_back(made) != "") == ("passed" in later)


def test_of_one_level_the_latest_check_counts() -> None:
    again = msgspec.structs.replace(verification("passed"), checks=(Check("stored", "passed", "2027-01-01T00:00:00Z"),))
    assert highest_passed(backup(later=[again])) == Check("stored", "passed", "2027-01-01T00:00:00Z")


def test_of_a_verification_that_found_damage_nothing_counts_as_passed() -> None:
    checks = (Check("structure", "passed", "2027-01-01T00:00:00Z"), Check("content", "failed", "2027-01-01T00:00:00Z"))
    damaged = msgspec.structs.replace(verification("failed"), checks=checks)
    assert highest_passed(backup(outcomes={"trailer": "passed"}, later=[damaged])) == backup().manifest.checks[0]


CONTENT_OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["passed", "failed", "not_comparable"])


@given(st.lists(st.tuples(st.sampled_from(["structure", "content"]), CONTENT_OUTCOMES), max_size=4))
def test_of_records_that_disagree_the_worse_counts_and_not_comparable_for_nothing(
    rows: list[tuple[Literal["structure", "content"], Outcome]],
) -> None:
    later = [
        msgspec.structs.replace(verification(outcome), level=level, checks=(Check(level, outcome, REQUESTED_AT),))
        for level, outcome in rows
    ]
    made = backup(later=later)
    neutral = {("structure", "passed"), ("content", "passed"), ("content", "not_comparable")}
    against = set(rows) - neutral
    assert made.is_good is (against == set())
    assert (why_not_good(made) == []) is made.is_good
    assert (found_different(made) != "") is (("content", "failed") in against)
    assert (found_damaged(made) != "") is any(level == "structure" for level, _ in against)
    assert (last_read_back(made) != "") is (("structure", "passed") in rows)


def test_a_difference_is_told_as_one() -> None:
    differs = msgspec.structs.replace(verification("failed"), level="content", message="a and b DIFFER")
    (reason,) = why_not_good(backup(later=[differs, verification("passed")]))
    assert reason == f"content differs, found {differs.checked_at}: a and b DIFFER"
