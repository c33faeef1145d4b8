"""Whether a node can be lost: the guard's word on a removal, and the plain count of a failure."""

from collections.abc import Sequence

import pytest

from agent.domain import node_loss
from agent.domain.cluster import Alarm, AlarmKind
from agent.domain.member_health import assess
from agent.domain.node_loss import NodeLoss
from tests.unit.guard_worlds import MORE_STATES, Naming, World, member_id, view_of, worlds


def judged(
    letters: str, size: int | None = None, alarms: Sequence[Alarm] = (), *, naming: Naming = "agreed"
) -> NodeLoss:
    return node_loss.judge(assess(view_of(World(letters, naming), tuple(alarms))), size)


@pytest.mark.parametrize(
    "letters, size, can, rule",
    [
        ("HHH", None, True, "G1"),
        ("HHH", 3, True, "G1"),
        ("HHHHH", 5, True, "G1"),
        ("HHHHU", 5, False, "G1"),
        ("HHHHU", None, False, "G1"),
        ("HHU", None, False, "G1"),
        ("HHL", 3, False, "G1"),
        ("HHHH", None, True, "G1"),
        ("HH", 3, False, "G1"),
        ("HH", None, False, "quorum"),
        ("HHH", 5, False, "G1"),
        ("H", None, False, "G6"),
        ("Hl", 1, False, "G6"),
        ("HHC", 3, False, "G5"),
        ("HUU", None, False, "G7"),
    ],
)
def test_the_cases_of_a_runbook(letters: str, size: int | None, can: bool, rule: str) -> None:
    loss = judged(letters, size)
    assert (loss.can_lose_one, loss.rule) == (can, rule), loss.told
    assert loss.told.startswith("yes" if can else "no")
    assert ("not on record" in loss.told) is (size is None)


def test_under_a_full_disk_no_node_may_be_removed_and_yet_one_may_fail() -> None:
    loss = judged("HHH", 3, [Alarm(member_id(1), AlarmKind.NOSPACE)])
    assert not loss.can_lose_one
    assert loss.survives_failure
    assert "refused by no-space" in loss.told
    assert loss.told.endswith("; if one fails, 2 of 3 stay healthy, quorum is 2")


def test_a_leaderless_cluster_can_lose_nobody() -> None:
    loss = judged("HHH", 3, naming="none")
    assert (loss.can_lose_one, loss.survives_failure, loss.rule) == (False, False, "G7")


def test_a_yes_is_never_said_where_any_one_failure_stops_the_cluster() -> None:
    said = 0
    for world in worlds(4, MORE_STATES):
        loss = node_loss.judge(assess(view_of(world)), None)
        if loss.can_lose_one:
            said += 1
            voting = [letter for letter in world.letters if letter not in "lb"]
            assert world.letters.count("H") - 1 > len(voting) / 2, world
    assert said
