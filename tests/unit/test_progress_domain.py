"""Rate, percent, ratio and time left: right for a steady work, and unknown rather than wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import progress
from agent.domain.progress import NOTHING_PACKED, Packed, Progress, Window

MB = 1024 * 1024


@given(
    rate=st.integers(1, 10**9), step_s=st.floats(0.1, 5.0), count=st.integers(6, 200), start=st.integers(0, 10**12),
)  # fmt: skip
def test_a_steady_work_has_its_rate(rate: int, step_s: float, count: int, start: int) -> None:
    window = Window()
    for number in range(count):
        window.add(77.0 + number * step_s, start + round(number * step_s * rate))
    assert window.rate_bytes_per_s() == pytest.approx(rate, rel=0.02, abs=3.0)


@given(samples=st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 10**12)), max_size=60))
def test_no_order_of_clock_or_count_gives_a_negative_rate_or_an_error(samples: list[tuple[float, int]]) -> None:
    window = Window()
    for at_s, done_bytes in samples:
        window.add(at_s, done_bytes)
        rate = window.rate_bytes_per_s()
        assert rate is None or rate >= 0


def test_what_was_long_ago_does_not_count() -> None:
    window = Window(10.0)
    for second in range(100):
        window.add(float(second), second * MB)
    for second in range(100, 130):
        window.add(float(second), 99 * MB)  # it stands still
    assert window.rate_bytes_per_s() == 0
    assert progress.eta_s(99 * MB, 200 * MB, window.rate_bytes_per_s()) is None


def test_a_rare_sample_still_has_a_rate() -> None:
    window = Window(10.0)
    window.add(0.0, 0)
    window.add(60.0, 60 * MB)
    assert window.rate_bytes_per_s() == MB


def test_a_rate_over_too_short_a_time_is_not_told() -> None:
    window = Window()
    window.add(0.0, 0)
    window.add(0.4, MB)
    assert window.rate_bytes_per_s() is None


def test_a_count_that_begins_anew_begins_a_new_rate() -> None:
    window = Window()
    window.add(0.0, 0)
    window.add(1.0, 100 * MB)
    window.add(2.0, MB)
    assert window.rate_bytes_per_s() is None
    window.add(3.0, 2 * MB)
    assert window.rate_bytes_per_s() == MB


@given(done=st.integers(0, 10**13), total=st.integers(-5, 10**13))
def test_the_percentage_is_one(done: int, total: int) -> None:
    percent = progress.percent(done, total)
    assert (percent is None) == (total <= 0)
    assert percent is None or 0 <= percent <= 100
    assert percent != 100 or done >= total


@given(done=st.integers(0, 10**12), more=st.integers(0, 10**12), rate=st.integers(1, 10**10))
def test_the_time_left_is_what_the_rate_says(done: int, more: int, rate: int) -> None:
    eta_s = progress.eta_s(done, done + more, rate)
    if more / rate <= progress.MOST_ETA_S and done + more:
        assert eta_s == round(more / rate)
    else:
        assert eta_s is None


@pytest.mark.parametrize("done, total, rate", [(5, 0, 1.0), (5, 10, None), (5, 10, 0.0)])
def test_an_unknown_time_left_is_none(done: int, total: int, rate: float | None) -> None:
    assert progress.eta_s(done, total, rate) is None


def test_the_ratio_waits_for_enough() -> None:
    assert progress.ratio(NOTHING_PACKED) is None
    assert progress.ratio(Packed(8 * MB, MB - 1)) is None
    assert progress.ratio(Packed(9 * MB, 2 * MB)) == 4.5


def test_the_document_has_what_is_known() -> None:
    assert Progress("save").document() == {"step": "save", "bytes": 0}
    made = progress.made("save", 30 * MB, 40 * MB, 5.0 * MB, Packed(20 * MB, 5 * MB))
    assert made.document() == {
        "step": "save", "bytes": 30 * MB, "total_bytes": 40 * MB, "percent": 75, "rate_bytes_per_s": 5 * MB,
        "packed_bytes": 5 * MB, "ratio": 4.0, "eta_s": 2,
    }  # fmt: skip
