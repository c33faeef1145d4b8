"""The reasons why a backup is not good say nothing where it is, and only there."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.snapshot import Level, Outcome
from agent.domain.soundness import why_not_good
from tests.unit.test_snapshot_domain import GOOD, backup, verification

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
