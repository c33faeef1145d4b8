"""What onlookers and the log are told of a step: enough to follow it, never a flood."""

import logging
from typing import Any

import pytest

from agent.domain.progress import Packed
from agent.operations.step_progress import LOG_INTERVAL_S, REPORT_INTERVAL_S, StepProgress

MB = 1024 * 1024


class Watched:
    """A step whose clock a test moves."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.told = list[dict[str, Any]]()
        self.progress = StepProgress(lambda document: self.told.append(dict(document)), lambda: self.now_s)
        self.progress.begin("save")

    def run(self, seconds: float, rate: int = MB, step_s: float = 0.05) -> None:
        for number in range(1, round(seconds / step_s) + 1):
            self.now_s += step_s
            self.progress.tell(round(number * step_s * rate), 100 * MB, Packed(4 * number * MB, number * MB))


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", "") == "step.progress"]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_short_step_has_no_line(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    watched.run(LOG_INTERVAL_S - 0.5)
    assert lines(caplog) == []


def test_a_long_step_has_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    watched.run(65.0)
    assert 5 <= len(lines(caplog)) <= 6
    last = lines(caplog)[-1]
    assert last.percent == last.done_bytes // MB
    assert last.rate_bytes_per_s == pytest.approx(MB, rel=0.02)
    assert last.ratio == 4.0
    assert last.eta_s == pytest.approx(100 - last.percent, abs=3)


def test_many_short_steps_have_no_line(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    for number in range(50):
        watched.progress.begin(f"step {number}")
        watched.run(5.0)
    assert lines(caplog) == []


def test_onlookers_are_told_at_once_and_then_four_times_a_second() -> None:
    watched = Watched()
    watched.run(10.0)
    assert watched.told[0] == {"step": "save", "bytes": 0}
    assert len(watched.told) <= 2 + 10.0 / REPORT_INTERVAL_S
    assert watched.told[-1]["total_bytes"] == 100 * MB
    watched.progress.begin("store")
    assert watched.told[-1] == {"step": "store", "bytes": 0}
    watched.progress.tell(7)
    assert watched.told[-1] == {"step": "store", "bytes": 7}
