"""Progress is live on a terminal and silent elsewhere."""

import io
import sys

import pytest

from agent.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "told, text",
    [
        ({}, "snapshot: queued"),
        ({"step": "save", "bytes": 1048576, "total_bytes": 4194304, "percent": 25}, "step save, 1.0 MiB, 25 %"),
        (
            {"step": "save", "bytes": 1048576, "percent": 25, "rate_bytes_per_s": 2097152, "ratio": 4.5, "eta_s": 90},
            "step save, 1.0 MiB, 25 %, 2.0 MiB/s, compressed 4.5:1, 1 min 30 s left",
        ),
        (
            {"step": "save", "bytes": 1, "rate_bytes_per_s": "fast", "ratio": float("nan"), "eta_s": float("inf")},
            "step save, 1 B",
        ),
        ({"step": "[bold]odd[/]\x1b", "bytes": "many", "total_bytes": None}, "step [bold]odd[/]"),
    ],
)
def test_a_terminal_shows_step_and_bytes(monkeypatch: pytest.MonkeyPatch, told: dict[str, object], text: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    with progress.shown("snapshot") as on_progress:
        on_progress(told)
    assert text in terminal.getvalue()


def test_elsewhere_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("snapshot") as on_progress:
        on_progress({"step": "save"})
    told = capsys.readouterr()
    assert told.out + told.err == ""
