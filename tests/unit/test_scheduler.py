"""When the daemon asks by itself: for its outbox later and later until it is empty, for looks as the last one said."""

import errno
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from agent import scheduler
from agent.adapters.spool import Spool
from agent.daemon import Daemon, Timing
from agent.domain.attempts import with_result
from agent.domain.request import Record, Result, Status
from agent.scheduler import LookSchedule, OutboxSchedule

LOOK_ID = "schedule-0123456789abcdef"


class Place:
    """A spool, a clock and an outbox that are what the test says."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self.spool.create()
        self.now_s, self.kept = 1000.0, 0
        self.schedule = OutboxSchedule(self.spool, lambda: self.kept, 60.0, lambda: self.now_s)

    def look(self, after_s: float = 0.0) -> int:
        """Looks after that time; how many requests wait now."""
        self.now_s += after_s
        self.schedule.look()
        return len(self.spool.names("incoming"))

    def end(self) -> None:
        """The one request is run to its end."""
        (name,) = self.spool.names("incoming")
        op_id = name.removesuffix(".json")
        self.spool.claim(op_id)
        record = self.spool.read("running", op_id)
        result = Result(op_id, 1, record.request.trace_id, "outbox", "failed", 1, "", "")
        self.spool.finish(with_result(Record(record.request), result))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_empty_outbox_asks_for_nothing(place: Place) -> None:
    assert [place.look(after_s=100) for _ in range(3)] == [0, 0, 0]


def test_what_came_in_is_offered_after_a_while_and_once(place: Place) -> None:
    place.kept = 1
    assert [place.look(), place.look(59), place.look(1), place.look(1000), place.look(1000)] == [0, 0, 1, 1, 1]
    found = place.spool.read("incoming", place.spool.names("incoming")[0].removesuffix(".json"))
    assert (found.request.operation, found.request.source) == ("outbox", "node")


def test_each_failure_doubles_the_time_up_to_sixteen_times(place: Place) -> None:
    place.kept = 1
    place.look()
    waits = []
    for _ in range(7):
        waited = 0
        while not place.look(after_s=10):
            waited += 10
        waits.append(waited + 10)
        place.end()
    assert waits == [60, 60, 120, 240, 480, 960, 960]


def test_after_something_was_taken_the_rest_does_not_wait_long(place: Place) -> None:
    place.kept = 5
    place.look()
    for _ in range(6):
        while not place.look(after_s=10):
            pass
        place.end()
    place.kept = 4
    while not place.look(after_s=10):
        pass
    place.end()
    assert [place.look(after_s=50), place.look(after_s=10)] == [0, 1]


def test_after_it_was_empty_it_begins_anew(place: Place) -> None:
    place.kept = 1
    place.look()
    for _ in range(3):
        while not place.look(after_s=10):
            pass
        place.end()
    place.kept = 0
    place.look()
    place.kept = 1
    assert [place.look(), place.look(59), place.look(1)] == [0, 0, 1]


class Looking:
    """A spool, a clock, and looks that end as the test says."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self.spool.create()
        self.now_s = 1000.0
        self.schedule = LookSchedule(self.spool, LOOK_ID, lambda: self.now_s)

    def look(self, after_s: float = 0.0) -> int:
        """Looks after that time; how many requests wait now."""
        self.now_s += after_s
        self.schedule.look()
        return len(self.spool.names("incoming"))

    def end(self, status: Status = "succeeded", **output: object) -> None:
        self.spool.claim(LOOK_ID)
        record = self.spool.read("running", LOOK_ID)
        trace_id = record.request.trace_id
        result = Result(LOOK_ID, record.generation, trace_id, "schedule", status, 1, "", "", output=output)
        self.spool.finish(with_result(record, result))


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    return Looking(tmp_path)


def test_it_looks_after_a_start_and_then_when_the_last_look_said(looking: Looking) -> None:
    assert [looking.look(), looking.look(500), looking.look(500)] == [1, 1, 1]
    looking.end(look_again_in_s=40.5)
    assert [looking.look(), looking.look(40), looking.look(1)] == [0, 0, 1]
    looking.end(look_again_in_s=300.0)
    assert [looking.look(), looking.look(299), looking.look(1)] == [0, 0, 1]


def test_it_says_when_it_wants_its_turn_and_never_at_once(looking: Looking) -> None:
    looking.look()
    assert looking.schedule.next_in_s() is None
    looking.end(look_again_in_s=2.0)
    looking.look()
    assert looking.schedule.next_in_s() == 2.0
    looking.now_s += 100
    assert looking.schedule.next_in_s() == scheduler.SOONEST_S


def test_all_looks_are_generations_of_one_operation_and_one_result(looking: Looking) -> None:
    for generation in range(1, 5):
        assert looking.look(after_s=10) == 1
        looking.end(look_again_in_s=1.0)
        looking.look()
        (name,) = looking.spool.names("done")
        record = looking.spool.read("done", name.removesuffix(".json"))
        assert (record.generation, len(record.results)) == (generation, 1)


def test_generations_have_an_end_and_begin_anew(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_GENERATIONS", 2)
    seen = []
    for _ in range(4):
        assert looking.look(after_s=10) == 1
        seen.append(looking.spool.read("incoming", LOOK_ID).generation)
        looking.end(look_again_in_s=1.0)
        looking.look()
    assert seen == [1, 2, 1, 2]


@pytest.mark.parametrize("said", [None, "soon", -5, 0.0, float("inf"), 1e9, True])
def test_whatever_a_look_says_the_next_one_comes_neither_at_once_nor_never(looking: Looking, said: object) -> None:
    looking.look()
    looking.end(look_again_in_s=said)
    assert [looking.look(), looking.look(0.1), looking.look(300)] == [0, 0, 1]


def test_a_look_that_failed_is_made_again_after_a_while(looking: Looking) -> None:
    looking.look()
    looking.end("failed")
    assert [looking.look(), looking.look(59), looking.look(1)] == [0, 0, 1]


def test_a_schedule_that_can_not_look_does_not_end_the_service(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable:
        def look(self) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", "outbox")

        def next_in_s(self) -> float | None:
            return 0.7

    intake, waited = MagicMock(has_orphans=False), MagicMock()
    intake.next_deadline_in_s.return_value = None
    daemon = Daemon(
        spool_=place.spool, lock_path=tmp_path / "lock", intake=intake, notifier=MagicMock(watchdog_interval_s=None),
        timing=Timing(30.0, 1.0), housekeeping=MagicMock(), rotate_log=lambda: None,
        schedules=[Unreadable(), place.schedule],
    )  # fmt: skip
    daemon._cycle()
    intake.cycle.assert_called_once_with()
    monkeypatch.setattr("agent.daemon.select.select", waited)
    daemon._sleep()
    assert waited.call_args.args[3] == 0.7  # the turn that a schedule wants comes before the scan
