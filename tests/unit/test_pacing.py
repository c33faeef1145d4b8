"""The sender waits as long as the limit says, no longer than somebody wants its bytes, and a hopeless limit is told."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UploadLimitTooLow
from agent.operations.following import Following, GivenUp
from agent.operations.pacing import Pace
from tests.sandbox.processes import wait_until


class Clock:
    """One that only a pause moves."""

    def __init__(self) -> None:
        self.now_s, self.pauses = 0.0, list[float]()

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def pace(self, limit: int) -> Pace:
        return Pace(limit, clock_s=lambda: self.now_s, pause=self.pause)


@given(limit=st.integers(1, 10**6), chunks=st.lists(st.binary(max_size=400), max_size=20))
def test_the_same_bytes_go_and_take_the_time_they_must(limit: int, chunks: list[bytes]) -> None:
    clock, told = Clock(), list[int]()
    pace = clock.pace(limit)
    assert list(pace.paced(chunks, on_bytes=told.append)) == chunks
    assert sum(clock.pauses) == pytest.approx(sum(map(len, chunks)) / limit)
    assert pace.sent_bytes == sum(map(len, chunks)) == (told[-1] if told else 0)


def test_what_is_sent_again_waits_too() -> None:
    clock = Clock()
    pace = clock.pace(100)
    for _ in range(3):
        assert len(list(pace.paced([bytes(100)]))) == 1
    assert sum(clock.pauses) == pytest.approx(3.0)
    assert pace.sent_bytes == 100


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    pace = clock.pace(0)
    assert len(list(pace.paced([bytes(10**6)] * 50))) == 50
    pace.require(10**15, 1.0)
    assert (clock.pauses, pace.needed_s(10**15), pace.is_the_brake) == ([], 0.0, False)


def test_the_limit_is_the_brake_when_it_took_most_of_the_time() -> None:
    clock = Clock()
    pace = clock.pace(100)
    list(pace.paced([bytes(100)] * 5))
    assert pace.is_the_brake
    clock.now_s += 5.0  # a slow store
    assert not pace.is_the_brake


def test_a_limit_that_can_not_work_is_told_with_one_that_does() -> None:
    with pytest.raises(UploadLimitTooLow, match=r"at 1,000 bytes/s some 2,000,000 bytes take 2,000 s") as caught:
        Clock().pace(1000).require(20_000_000, 100.0)
    assert "raise store.upload_limit_bytes_per_s to 20,001 at least" in caught.value.hint
    Clock().pace(20_001).require(20_000_000, 100.0)


def following_that_pauses(path: Path, act: Callable[[Following], None]) -> None:
    following = Following(path)
    with ThreadPoolExecutor(1) as pool:
        pausing = pool.submit(following.pause, 3600.0)
        wait_until(pausing.running, "the pause does not begin")
        act(following)
        pausing.result(timeout=20)


def test_giving_up_ends_a_pause_at_once(tmp_path: Path) -> None:
    with pytest.raises(GivenUp):
        following_that_pauses(tmp_path / "snapshot.db", Following.give_up)


def test_a_pause_ends_when_its_time_is_over(tmp_path: Path) -> None:
    Following(tmp_path / "snapshot.db").pause(0.001)
