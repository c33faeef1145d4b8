"""The limit holds over any time, whatever the sizes and whatever holds the sender up; and nothing waits for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import bandwidth
from agent.domain.bandwidth import Bandwidth, shortfall

RATES = st.integers(1, 10**9)
SIZES = st.integers(0, 10**7)
EPSILON = 1e-6


def released(limit: Bandwidth, sizes: list[int], delays: list[float]) -> list[tuple[float, int]]:
    """When each went, where whatever comes after it takes its delay."""
    now_s, went = 1000.0, list[tuple[float, int]]()
    for size, delay_s in zip(sizes, delays, strict=True):
        now_s += limit.wait_s(size, now_s)
        went.append((now_s, size))
        now_s += delay_s
    return went


@given(
    rate=RATES, credit_s=st.floats(0, 10),
    steps=st.lists(st.tuples(SIZES, st.floats(0, 1000)), min_size=2, max_size=12),
)  # fmt: skip
def test_no_time_has_more_than_the_limit_allows(rate: int, credit_s: float, steps: list[tuple[int, float]]) -> None:
    went = released(Bandwidth(rate, credit_s), [size for size, _ in steps], [delay for _, delay in steps])
    for first in range(len(went)):
        for last in range(first + 1, len(went)):
            sent = sum(size for _, size in went[first + 1 : last + 1])
            time_s = went[last][0] - went[first][0]
            assert sent <= rate * (time_s + credit_s) * (1 + EPSILON) + rate * EPSILON


@given(rate=RATES, sizes=st.lists(SIZES, min_size=1, max_size=20))
def test_who_never_waits_for_others_goes_exactly_at_the_limit(rate: int, sizes: list[int]) -> None:
    went = released(Bandwidth(rate), sizes, [0.0] * len(sizes))
    assert went[-1][0] - 1000.0 == pytest.approx(sum(sizes) / rate, rel=1e-6, abs=1e-6)


def test_a_short_stall_is_made_up_for_and_a_long_one_only_as_far_as_the_credit_goes() -> None:
    limit = Bandwidth(100, credit_s=1.0)
    assert limit.wait_s(100, 0.0) == pytest.approx(1.0)
    assert limit.wait_s(100, 1.5) == pytest.approx(0.5)  # half a second late
    assert limit.wait_s(100, 2.0) == pytest.approx(1.0)  # in time again
    assert [limit.wait_s(100, 500.0) for _ in range(3)] == pytest.approx([0.0, 1.0, 2.0])


def test_a_clock_that_goes_back_holds_nothing_up_for_longer_than_the_bytes_booked() -> None:
    limit = Bandwidth(100)
    limit.wait_s(100, 50.0)
    assert limit.wait_s(100, 49.0) == pytest.approx(3.0)


@given(size=st.integers(1, 10**12), rate=st.integers(1, 10**9), time_s=st.floats(0.01, 10**5))
def test_what_does_not_go_is_told_with_a_limit_at_which_it_goes(size: int, rate: int, time_s: float) -> None:
    short = shortfall(size, rate, time_s)
    assert (short is None) == (size <= rate * time_s)
    if short is not None:
        assert short.needed_bytes_per_s > rate
        assert shortfall(size, short.needed_bytes_per_s, time_s) is None
        assert shortfall(size, rate, short.needed_s * (1 + EPSILON)) is None


@given(size=st.integers(0, 10**15), time_s=st.floats(-10, 10))
def test_no_limit_is_never_too_low(size: int, time_s: float) -> None:
    assert shortfall(size, 0, time_s) is None


def test_without_any_time_left_nothing_goes() -> None:
    short = shortfall(1000, 10, 0.0)
    assert short is not None
    assert short.needed_bytes_per_s == 1000


def test_a_database_is_taken_for_well_compressible() -> None:
    assert bandwidth.least_sent_bytes(10**9) == 10**8
