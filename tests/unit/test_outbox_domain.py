"""What has to leave a full outbox: the oldest, and never the newest, nor the newest good one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import outbox
from agent.domain.outbox import Bounds, Draft, Kept, overflow, to_free
from agent.domain.request import ErrorResult
from agent.errors import SnapshotInvalid
from tests.unit.test_snapshot_domain import manifest

GOOD = Draft(manifest(), emergency=False, kept_at="2026-01-31T12:00:00Z", why=ErrorResult("aws_unavailable", "away"))
EMERGENCY = msgspec.structs.replace(GOOD, emergency=True)


def kept(number: int, size_bytes: int = 10, draft: Draft | None = GOOD) -> Kept:
    return Kept(f"20260131T12{number:04}Z-01234567", size_bytes, draft)


boxes = st.lists(
    st.builds(kept, st.integers(0, 9999), st.integers(0, 100), st.sampled_from([GOOD, EMERGENCY, None])),
    max_size=12, unique_by=lambda one: one.snapshot_id,
)  # fmt: skip


def test_the_oldest_goes_first() -> None:
    assert overflow([kept(3), kept(1), kept(2)], Bounds(2, 100)) == [kept(1)]
    assert overflow([kept(3), kept(1), kept(2)], Bounds(9, 10)) == [kept(1), kept(2)]


def test_the_newest_good_one_stays_though_an_emergency_came_after_it() -> None:
    rows = [kept(1), kept(2), kept(3, draft=EMERGENCY), kept(4, draft=EMERGENCY)]
    assert overflow(rows, Bounds(1, 10)) == [rows[0], rows[2]]


def test_the_one_that_was_just_kept_stays_though_a_clock_that_went_back_makes_it_the_oldest() -> None:
    rows = [kept(1), kept(7), kept(8), kept(9)]
    assert overflow(rows, Bounds(3, 100), rows[0].snapshot_id) == [rows[1]]
    assert overflow(rows, Bounds(1, 10), rows[0].snapshot_id) == [rows[1], rows[2]]


@given(boxes, st.integers(1, 6), st.integers(1, 300))
def test_no_bound_takes_the_newest_or_the_newest_good_one(rows: list[Kept], most: int, most_bytes: int) -> None:
    bounds = Bounds(most, most_bytes)
    going = overflow(rows, bounds)
    staying = [one for one in rows if one not in going]
    good = [one for one in rows if one.is_good]
    if rows:
        assert max(rows, key=lambda one: one.snapshot_id) in staying
    if good:
        assert max(good, key=lambda one: one.snapshot_id) in staying
    within = len(staying) <= most and sum(one.size_bytes for one in staying) <= most_bytes
    assert within or len(staying) <= 2
    assert overflow(staying, bounds) == []


def test_the_oldest_goes_first_for_room_and_no_more_than_needed() -> None:
    rows = [kept(3), kept(1), kept(2)]
    assert to_free(rows, 0) == []
    assert to_free(rows, 10) == [kept(1)]
    assert to_free(rows, 11) == [kept(1), kept(2)]
    assert to_free(rows, 10**9) == [kept(1), kept(2)]


@given(boxes, st.integers(-5, 500))
def test_room_is_made_out_of_all_but_the_newest_and_the_newest_good_one(rows: list[Kept], needed: int) -> None:
    going = to_free(rows, needed)
    staying = [one for one in rows if one not in going]
    assert all(max(group, key=lambda one: one.snapshot_id) in staying
               for group in (rows, [one for one in rows if one.is_good]) if group)  # fmt: skip
    assert sum(one.size_bytes for one in going[:-1]) < needed or not going
    assert sum(one.size_bytes for one in going) >= needed or len(staying) <= 2


def test_a_draft_comes_back_as_it_was() -> None:
    assert outbox.decode(outbox.encode(GOOD), "x") == GOOD


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"manifest": {}}'])
def test_a_damaged_draft_is_told(content: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        outbox.decode(content, "x")
