"""What people read: sizes, ages, and text that can not turn into something else on a terminal."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import tables


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**5, "3072.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert tables.size(count) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (86400, "1 d 0 h"), (200000, "2 d 7 h")],
)
def test_ages_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert tables.age(seconds) == text


def test_durations() -> None:
    assert [tables.duration(value) for value in (0, 999, 1000, 59_940, 61_000)] == [
        "0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s",
    ]  # fmt: skip


def test_a_moment_ahead_of_this_clock_shows_as_such() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert tables.since(now - timedelta(minutes=5), now) == "5 min 0 s"
    assert tables.since(now + timedelta(minutes=5), now) == "in 5 min 0 s"


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    shown = tables.plain(text).plain
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_brackets_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    tables.console().print(tables.error_lines("refused", "[no-leader] 1", "ask [bold]her[/]"))
    assert capsys.readouterr().out == "refused: [no-leader] 1\nnext: ask [bold]her[/]\n"
