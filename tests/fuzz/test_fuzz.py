"""The short run of the fuzzing: the same cases every time. `make fuzz` runs others, and many more."""

import pytest

from tests.fuzz.target import Target, in_memory, run
from tests.fuzz.targets import TARGETS, shares

CASES = 1500
pytestmark = pytest.mark.integration


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_case_brings_up_what_is_not_one_of_our_errors(target: Target) -> None:
    with in_memory() as folder:
        ran = run(target, folder, cases=min(shares(CASES)[target.name], target.most_in_short or CASES), seed=None)
    assert not ran.failure, ran.failure
    assert ran.cases >= 5
