"""The size that a cluster is meant to have, and the pause."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.membership_policy import (
    MOST_GAP_S,
    STOOD_S,
    Pause,
    SizeRecord,
    Standing,
    decode_pause,
    decode_size,
    encode,
    next_record,
    observe,
    paused,
    resized,
)
from agent.errors import BadInput

TRACE = "2" * 32
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def seen(*looks: tuple[int, int], every_s: float = 60.0, start: Standing | None = None, boot: str = "b") -> Standing:
    """What stands after looks of (healthy, listed voters) in turn."""
    standing, at = start, start.at_s + every_s if start is not None else 0.0
    for healthy, voters in looks:
        standing = observe(standing, healthy=healthy, voters=voters, now_s=at, boot_id=boot)
        at += every_s
    assert standing is not None
    return standing


def size(record: SizeRecord | None, standing: Standing) -> int | None:
    after = next_record(record, standing, TRACE)
    return None if after is None else after.size


def observed(number: int) -> SizeRecord:
    return SizeRecord(number, shrinking=False, set_by="observed", trace_id=TRACE)


def test_a_first_size_is_that_of_a_whole_odd_cluster_after_ten_minutes() -> None:
    assert size(None, seen(*[(3, 3)] * 11)) == 3
    assert size(None, seen(*[(3, 3)] * 10)) is None


@pytest.mark.parametrize("look", [(2, 3), (2, 2), (4, 4), (4, 5), (0, 3)])
def test_a_first_size_is_not_taken_of_a_cluster_that_lacks_somebody(look: tuple[int, int]) -> None:
    """Of three with one down the healthy count would say 1, and then the next one could go as well."""
    assert size(None, seen(*[look] * 40)) is None


def test_the_size_rises_to_the_highest_odd_count_that_stood() -> None:
    assert size(observed(1), seen(*[(3, 3)] * 11)) == 3
    assert size(observed(3), seen(*[(4, 4)] * 40)) is None
    assert size(observed(3), seen(*[(5, 5)] * 11)) == 5
    assert size(observed(3), seen(*[(5, 5)] * 5, (4, 5), *[(5, 5)] * 10)) is None
    assert size(observed(1), seen(*[(5, 5)] * 5, (4, 5), *[(5, 5)] * 10)) == 3
    assert size(observed(5), seen(*[(3, 3)] * 40)) is None


def test_a_gap_or_a_boot_begins_anew() -> None:
    before = seen(*[(5, 5)] * 10)
    assert size(observed(3), seen((5, 5), start=before)) == 5
    assert size(observed(3), seen((5, 5), start=before, every_s=MOST_GAP_S + 1)) is None
    assert size(observed(3), seen((5, 5), start=before, boot="c")) is None
    assert size(observed(3), seen((5, 5), start=before, every_s=-1)) is None


def test_what_an_operator_lowered_is_not_raised_by_voters_that_have_yet_to_go() -> None:
    lowered = resized(3, 5, TRACE)
    assert lowered.shrinking
    assert size(lowered, seen(*[(5, 5)] * 60)) is None
    ended = next_record(lowered, seen((3, 3)), TRACE)
    assert ended is not None
    assert (ended.size, ended.shrinking, ended.set_by) == (3, False, "operator")
    assert size(ended, seen(*[(5, 5)] * 11)) == 5
    assert not resized(5, 3, TRACE).shrinking


@pytest.mark.parametrize("number", [0, -1, 2, 4, 10, 11])
def test_a_size_is_odd_and_small(number: int) -> None:
    with pytest.raises(BadInput):
        resized(number, 3, TRACE)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60), st.sampled_from([1, 3, 5]))
def test_no_size_is_reached_that_did_not_stand(looks: list[tuple[int, int]], start: int) -> None:
    record, standing = observed(start), None
    history: list[tuple[float, int]] = []
    for at, (healthy, voters) in enumerate(looks):
        now_s = at * 60.0
        standing = observe(standing, healthy=min(healthy, voters), voters=voters, now_s=now_s, boot_id="b")
        history.append((now_s, min(healthy, voters)))
        after = next_record(record, standing, TRACE)
        if after is not None:
            window = [count for when, count in history if when >= now_s - STOOD_S]
            assert after.size % 2 == 1
            assert record.size < after.size <= min(window)
            assert now_s >= STOOD_S
            record = after


def test_a_pause_ends_by_itself_and_one_that_can_not_be_read_does_not() -> None:
    pause = Pause("an upgrade", "2026-11-24T13:00:00Z", TRACE)
    assert paused(pause, NOW) == "an upgrade"
    assert paused(pause, NOW.replace(hour=13)) == ""
    assert paused(None, NOW) == ""
    assert decode_pause(encode(pause)) == pause
    assert decode_pause(None) is None
    for broken in (b"", b"{}", encode(pause).replace(b"2026-11-24T", b"2026-13-24T")):
        assert paused(decode_pause(broken), NOW)


def test_a_size_that_can_not_be_read_is_unknown() -> None:
    assert decode_size(encode(observed(3))) == observed(3)
    assert decode_size(None) is None
    assert decode_size(b'{"size":0}') is None
    assert decode_size(encode(observed(3)).replace(b"3", b"-3")) is None
