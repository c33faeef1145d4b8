"""What repeated looks tell of members, and the whole way from answers and records to a verdict."""

from dataclasses import replace

from agent.domain.cluster_health import Answer
from agent.domain.guard import judge
from agent.domain.guard_ask import Ask, Policy
from agent.domain.identity import Instance, Registered, Registry
from agent.domain.member_evidence import MOST_GAP_S, Looks, look, view_of, with_evidence
from agent.domain.member_health import assess
from agent.domain.member_record import NodeRecord
from agent.domain.membership import InstanceState, View
from tests.unit import guard_worlds
from tests.unit.guard_worlds import APPLIED, CLUSTER_ID, World, member_id


def seen(letters: str) -> View:
    """A view as it is gathered: answers and silence, and no evidence."""
    world = guard_worlds.view_of(World(letters, "agreed"))
    answers = [Answer(seat.member, seat.status, seat.silence) for seat in world.seats]
    return view_of(answers, world.alarms, cluster_id=CLUSTER_ID, confirmed=True)


def looks(*letters: str, every_s: float = 30.0, boot_ids: str = "") -> Looks:
    """What stays of looks at the same members in these states, one after the other."""
    after: Looks | None = None
    for number, one in enumerate(letters):
        boot_id = boot_ids[number] if boot_ids else "b"
        after = look(after, seen(one), now_s=1000.0 + number * every_s, boot_id=boot_id)
    assert after is not None
    return after


def registry(state: InstanceState, place: int = 2) -> Registry:
    record = NodeRecord(
        "i-1", f"{CLUSTER_ID:x}", f"{member_id(place):x}", (), "n", (), "a", "1", "2026-11-24T12:00:00Z", "6" * 32
    )
    members = tuple(seat.member for seat in seen("HHU").seats)
    return Registry(CLUSTER_ID, members, {"i-1": Registered(record, 1)}, {"i-1": Instance("i-1", state)}, True)


def silent_s(after: Looks, place: int = 2) -> float:
    return with_evidence(seen("HHU"), after, registry("running")).seats[place].evidence.silent_s


def test_silence_counts_from_the_first_look_that_met_it() -> None:
    assert silent_s(looks("HHU")) == 0
    assert silent_s(looks("HHH", "HHU", "HHU", "HHU")) == 60
    assert silent_s(looks("HHU", "HHU", "HHH", "HHU")) == 0
    assert silent_s(looks("HHU", "HHU"), 1) == 0


def test_a_gap_a_boot_or_a_clock_that_went_back_begins_anew() -> None:
    assert silent_s(looks("HHU", "HHU", every_s=MOST_GAP_S)) == MOST_GAP_S
    assert silent_s(looks("HHU", "HHU", every_s=MOST_GAP_S + 1)) == 0
    assert silent_s(looks("HHU", "HHU", boot_ids="bc")) == 0
    assert silent_s(looks("HHU", "HHU", every_s=-1.0)) == 0


def test_who_answers_for_another_is_silent_itself() -> None:
    view = seen("HHH")
    status = view.seats[2].status
    assert status is not None
    foreign = replace(view.seats[2], status=replace(status, member_id=member_id(1)))
    after = look(None, replace(view, seats=(*view.seats[:2], foreign)), now_s=5.0, boot_id="b")
    assert set(after.silent_since_s) == {member_id(2)}


def test_a_learner_stands_still_while_its_applied_index_does() -> None:
    after = looks("HHHl", "HHHl", "HHHl")
    assert with_evidence(seen("HHHl"), after, registry("running")).seats[3].evidence.stalled_s == 60
    view = seen("HHHl")
    status = view.seats[3].status
    assert status is not None
    further = replace(view.seats[3], status=replace(status, raft_applied_index=APPLIED + 1))
    after = look(after, replace(view, seats=(*view.seats[:3], further)), now_s=1090.0, boot_id="b")
    assert with_evidence(view, after, registry("running")).seats[3].evidence.stalled_s == 0


def test_a_terminated_instances_member_goes_by_itself_after_a_minute_of_silence_and_no_sooner() -> None:
    ask = Ask("remove", member_id(2), by="node")
    for state, count, allowed in (
        ("terminated", 3, True), ("terminated", 2, False), ("running", 9, False), ("stopped", 9, False),
    ):  # fmt: skip
        after = looks(*["HHU"] * count)
        view = with_evidence(seen("HHU"), after, registry(state))  # type: ignore[arg-type]
        assert judge(view, ask, Policy(3)).allowed is allowed, (state, count)


def test_an_operators_word_counts_for_the_member_that_it_names() -> None:
    view = with_evidence(seen("HUU"), looks("HUU", "HUU", "HUU"), registry("running"), {member_id(1)})
    assert [one.condition for one in assess(view).members] == ["unhealthy", "dead", "unhealthy"]
