"""When the daemon offers its outbox: once at a time, later and later, and at once again after something was taken."""

from pathlib import Path

import pytest

from agent.adapters.spool import Spool
from agent.domain.attempts import with_result
from agent.domain.request import Record, Result
from agent.scheduler import OutboxSchedule


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
