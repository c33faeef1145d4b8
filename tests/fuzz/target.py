"""A target of the fuzzing, and its run: cases are counted as they are executed, and the one that failed is told."""

import contextlib
import logging
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity

Check = Callable[[Any], None]
MOST_ROUNDS = 20
HANGS_AFTER_S = 60.0


@dataclass(frozen=True)
class Target:
    """What is fuzzed. `opened` gives the check in a folder of its own; `share` is its part of all cases.

    A target with `most` is slow: it never runs more cases than that, and in the short run not more than
    `most_in_short`.
    """

    name: str
    what: str
    share: int
    cases: "hypothesis.strategies.SearchStrategy[Any]"
    opened: Callable[[Path], AbstractContextManager[Check]]
    most: int | None = None
    most_in_short: int | None = None


@dataclass
class Ran:
    """What came of a target: cases really executed, and how the first that failed is told."""

    cases: int = 0
    seconds: float = 0.0
    failure: str = ""


def run(target: Target, folder: Path, *, cases: int, seed: int | None) -> Ran:
    """Executes that many cases; without a seed always the same ones. Stops at the first failure.

    Hypothesis runs fewer than asked for where it knows no further ones, so it is started again with the next seed.
    """
    ran = Ran()
    started = time.monotonic()
    with _without_log(), _told_when_it_hangs(), target.opened(folder) as check:
        for turn in range(MOST_ROUNDS):
            if ran.failure or ran.cases >= cases:
                break
            _round(target, check, ran, cases - ran.cases, None if seed is None else seed + turn)
            if seed is None:
                break
    ran.seconds = time.monotonic() - started
    return ran


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where the machine has that: cases are many and small."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="etcd-agent-fuzz-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _told_when_it_hangs() -> Iterator[None]:
    """A case that does not end is a finding like any other."""

    def tell(number: int, frame: object) -> None:
        raise AssertionError(f"it does not end within {HANGS_AFTER_S:g} s")

    before = signal.signal(signal.SIGALRM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """What the agent's own modules log in this process is nobody's to read, and would hide the findings."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def _round(target: Target, check: Check, ran: Ran, cases: int, seed: int | None) -> None:
    def execute(case: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_S)
        try:
            check(case)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        ran.cases += 1

    test = hypothesis.settings(
        max_examples=cases, derandomize=seed is None, deadline=None, database=None, print_blob=False,
        verbosity=Verbosity.normal, suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        phases=(Phase.generate, Phase.target, Phase.shrink),
    )(hypothesis.given(target.cases)(execute))  # fmt: skip
    if seed is not None:
        test = hypothesis.seed(seed)(test)
    try:
        test()
    except Exception as error:  # noqa: BLE001 - whatever a case brings up is the finding
        ran.failure = _told(error)


def _told(error: Exception) -> str:
    notes = [note if len(note) < 4000 else f"{note[:4000]} … ({len(note)} characters)"
             for note in getattr(error, "__notes__", [])]  # fmt: skip
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[-6:])
    return "\n".join([f"{type(error).__name__}: {str(error)[:2000]}", *notes, "".join(frames)])
