"""Which node takes the next snapshot and when: exactly one while etcd decides, at least one always, never none."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain import slots
from agent.domain.slots import Rhythm, SlotRecord, View
from agent.errors import BadInput
from tests.unit.slot_world import START_S, World

DAY_S = 86400.0
RHYTHM = Rhythm(max_age_s=21600.0, timeout_s=1800.0)
NOW_S = START_S
RECORD = SlotRecord(4, "done", "node-2", "i-2", "1" * 32, "snapshot-0123456789abcdef", NOW_S - 60, NOW_S - 60, "id")
VIEW = View(NOW_S, NOW_S - 17000, None, 1, (1, 2, 3), 3, True, "snapshot-own")
WINDOW = st.tuples(st.floats(0, DAY_S), st.floats(1, 6 * 3600))


def rule(view: View) -> str:
    return slots.decide(view, RHYTHM).rule


def claimed(age_s: float, **changes: object) -> SlotRecord:
    fields = {"slot": 5, "state": "claimed", "node": "node-2", "claimed_at_s": NOW_S - age_s} | changes
    made: SlotRecord = slots.decode(slots.encode(RECORD))
    return SlotRecord(**{name: getattr(made, name) for name in made.__struct_fields__} | fields)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, "due"),
        ({"newest_s": NOW_S - 16000}, "young"),
        ({"newest_s": None}, "due"),
        ({"own": 3}, "due"),
        ({"own": 3, "newest_s": NOW_S - 16300}, "order"),
        ({"own": 2, "newest_s": NOW_S - 16300}, "order"),
        ({"own": 2, "newest_s": NOW_S - 16501}, "due"),
        ({"own": 1, "newest_s": NOW_S - 16201}, "due"),
        ({"own": 1, "newest_s": NOW_S - 16201, "leader": 1}, "order"),
        ({"own": 1, "newest_s": NOW_S - 16201, "voters": (1,), "leader": 1}, "due"),
        ({"own": 0}, "no-member"),
        ({"leader": 0}, "no-leader"),
        ({"own": 9}, "no-voter"),
        ({"record": claimed(60)}, "claimed"),
        ({"record": claimed(60), "shared": False}, "due"),
        ({"record": claimed(60, op_id="snapshot-own")}, "due"),
        ({"record": claimed(1801)}, "due"),
        ({"record": claimed(-40_000)}, "due"),
        ({"record": claimed(60, state="failed")}, "due"),
        ({"failures": 1, "failed_s": NOW_S - 10}, "failed"),
        ({"failures": 1, "failed_s": NOW_S - 31}, "due"),
        ({"failures": 40, "failed_s": NOW_S - 6000}, "due"),
    ],
)  # fmt: skip
def test_a_node_acts_or_says_why_not(changes: dict[str, object], expected: str) -> None:
    decision = slots.decide(replace(VIEW, **changes), RHYTHM)  # type: ignore[arg-type]
    assert decision.rule == expected
    assert decision.act is (expected == "due")


def test_the_first_snapshot_of_all_waits_for_nobody_but_a_claim() -> None:
    assert rule(replace(VIEW, newest_s=None, own=3)) == "due"
    assert rule(replace(VIEW, newest_s=None, own=3, record=claimed(5))) == "claimed"
    assert rule(replace(VIEW, newest_s=None, own=3, record=claimed(5, state="failed"))) == "order"


def test_a_first_claim_of_a_time_to_come_does_not_leave_the_others_waiting_for_the_first_in_turn() -> None:
    for state in ("failed", "done", "claimed"):
        of_a_wrong_clock = claimed(-1e9, state=state)
        assert rule(replace(VIEW, newest_s=None, own=2, record=of_a_wrong_clock)) == "due"


def test_a_key_that_is_too_large_to_be_ours_is_not_read() -> None:
    assert slots.decode(slots.encode(claimed(1, node="\U0001f600" * 256))).slot == 5
    with pytest.raises(BadInput, match="100,"):
        slots.decode(slots.encode(claimed(1, node="n" * 100_000)))


def test_a_snapshot_of_a_time_to_come_puts_nothing_off() -> None:
    assert slots.newest_of(NOW_S + 3600, NOW_S - 5, None, now_s=NOW_S) == NOW_S - 5
    assert slots.newest_of(NOW_S + 3600, now_s=NOW_S) is None
    assert slots.newest_of(NOW_S + 10, now_s=NOW_S) == NOW_S + 10


def test_what_another_node_keeps_counts_and_what_was_stored_is_for_the_listing_to_say() -> None:
    kept, stored = replace_record(stored=False), replace_record(stored=True)
    assert slots.kept_moment_s(kept, store_is_away=False) == RECORD.requested_at_s
    assert slots.kept_moment_s(stored, store_is_away=False) is None
    assert slots.kept_moment_s(stored, store_is_away=True) == RECORD.requested_at_s
    assert slots.kept_moment_s(claimed(5), store_is_away=True) is None
    assert slots.kept_moment_s(None, store_is_away=True) is None


def replace_record(*, stored: bool) -> SlotRecord:
    return SlotRecord(**{name: getattr(RECORD, name) for name in RECORD.__struct_fields__} | {"stored": stored})


def test_a_claim_without_an_end_is_taken_over_under_its_own_number() -> None:
    assert [slots.next_slot(one) for one in (None, RECORD, claimed(5), claimed(5, state="failed"))] == [1, 5, 5, 5]


def test_the_op_id_is_one_for_each_slot_and_node() -> None:
    def name(node: str, record: SlotRecord | None, newest_s: float | None) -> str:
        return slots.op_id("prod", node, record, newest_s)

    assert name("a", RECORD, 1.0) == name("a", claimed(5), 2.0)
    made = {name("a", RECORD, 1.0), name("b", RECORD, 1.0), name("a", None, 1.0), name("a", None, None)}
    assert len(made) == 4


def test_missed_slots_are_whole_greatest_ages() -> None:
    ages = [None, -5.0, 0.0, 21599.0, 21600.0, 43200.5]
    seen = [
        slots.missed(replace(VIEW, newest_s=None if age is None else NOW_S - age), RHYTHM) for age in ages
    ]  # fmt: skip
    assert seen == [0, 0, 0, 0, 1, 2]


@given(
    st.builds(
        View, st.floats(1e6, 1e10), st.one_of(st.none(), st.floats(0, 1e10)),
        st.one_of(st.none(), st.floats(0, 1e10).map(lambda at_s: claimed(0, claimed_at_s=at_s))),
        st.integers(0, 5), st.just((1, 2, 3, 4, 5)), st.integers(0, 5), st.booleans(),
        st.sampled_from(["", RECORD.op_id]), st.integers(0, 99), st.floats(0, 1e10),
    ),
    st.builds(Rhythm, st.floats(1, 31 * DAY_S), st.floats(1, 31 * DAY_S)),
)  # fmt: skip
def test_a_wait_is_never_nothing_and_never_longer_than_between_two_looks(view: View, rhythm: Rhythm) -> None:
    decision = slots.decide(view, rhythm)
    assert slots.LEAST_WAIT_S <= decision.wait_s <= max(slots.MOST_LOOK_S, slots.LEAST_WAIT_S)
    assert math.isfinite(decision.wait_s)
    assert decision.reason


@given(st.text(max_size=50), st.integers(0, 2**53))
def test_the_keys_value_comes_back_and_is_one_line_of_ascii(node: str, slot: int) -> None:
    made = claimed(1, node=node, slot=slot)
    try:
        node.encode()
    except UnicodeEncodeError:
        return
    content = slots.encode(made)
    assert slots.decode(content) == made
    assert content.isascii()
    assert b"\n" not in content


@given(st.binary(max_size=80))
def test_a_value_that_is_none_is_bad_input(content: bytes) -> None:
    with pytest.raises(BadInput):
        slots.decode(content)


@settings(max_examples=25)
@given(st.sampled_from([1, 3, 5]), st.lists(WINDOW, max_size=3), st.floats(1, 600))
def test_one_snapshot_for_each_slot_while_etcd_decides_also_with_the_store_away(
    size: int, away: list[tuple[float, float]], lasts_s: float
) -> None:
    world = World(size, RHYTHM, lasts_s, store_away=away)
    world.run(DAY_S)
    assert set(world.per_slot().values()) == {1}
    assert sorted(world.per_slot()) == list(range(1, len(world.taken) + 1))
    assert world.longest_gap_s(DAY_S) < RHYTHM.max_age_s
    assert len(world.taken) <= DAY_S / (RHYTHM.max_age_s * slots.DUE_AT) + 1
    assert size == 1 or not any(one.was_leader for one in world.taken[1:])


def test_the_leader_takes_it_where_nobody_else_does() -> None:
    others_down = {1: [(0.0, 3 * DAY_S)], 2: [(0.0, 3 * DAY_S)]}
    world = World(3, RHYTHM, 60.0, down=others_down)
    world.run(DAY_S)
    assert {one.node for one in world.taken} == {3}
    assert world.longest_gap_s(DAY_S) < RHYTHM.max_age_s


@settings(max_examples=30)
@given(
    st.sampled_from([3, 5]), st.lists(WINDOW, max_size=3), st.lists(WINDOW, max_size=3), st.floats(1, 600),
    st.lists(st.tuples(st.integers(1, 4), WINDOW), max_size=6),
)  # fmt: skip
def test_never_none_whoever_crashes_and_whatever_is_away(
    size: int, away: list[tuple[float, float]], read_only: list[tuple[float, float]], lasts_s: float,
    crashes: list[tuple[int, tuple[float, float]]],
) -> None:  # fmt: skip
    """One node, another one for each example, stays; the others crash at any time, in the midst of a snapshot too."""
    stays = size - 1
    down: dict[int, list[tuple[float, float]]] = {}
    for number, window in crashes:
        if number != stays:
            down.setdefault(number, []).append(window)
    world = World(size, RHYTHM, lasts_s, down=down, store_away=away, read_only=read_only)
    world.run(DAY_S)
    assert world.longest_gap_s(DAY_S) <= RHYTHM.max_age_s
    assert sum(node.looks for node in world.nodes) < DAY_S / RHYTHM.look_s * size * 3


def test_with_a_store_of_its_own_each_node_keeps_its_own() -> None:
    world = World(3, RHYTHM, 60.0, shared=False)
    world.run(DAY_S)
    for node in world.nodes:
        own = [one.begun_s for one in world.taken if one.node == node.number]
        gaps = [after - before for before, after in itertools.pairwise(own)]
        assert len(own) >= 4
        assert max(gaps) < RHYTHM.max_age_s


def test_without_a_writable_etcd_the_first_in_order_takes_it_and_the_store_tells_the_others() -> None:
    world = World(3, RHYTHM, 60.0, read_only=[(10.0, 3 * DAY_S)])
    world.run(DAY_S)
    later = [one.node for one in world.taken if one.begun_s > START_S + 1000]
    assert set(later) == {1}
    assert world.longest_gap_s(DAY_S) < RHYTHM.max_age_s


@pytest.mark.parametrize("max_age_s", [1.0, 10.0, 24.0, 60.0])
def test_a_short_age_makes_no_loop(max_age_s: float) -> None:
    rhythm = Rhythm(max_age_s, 30.0)
    world = World(3, rhythm, 0.3)
    world.run(max_age_s * 20)
    assert 20 <= len(world.taken) <= 40
    assert sum(node.looks for node in world.nodes) < 3 * 20 * max(25.0, max_age_s / slots.LEAST_WAIT_S)
