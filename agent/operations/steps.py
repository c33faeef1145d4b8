"""Named steps: each has its span, its two log lines, its time, and shows in the progress file."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from agent import trace
from agent.domain.progress import NOTHING_PACKED, Packed
from agent.domain.request import Request, Status, StepResult
from agent.errors import AgentError, DeadlineExceeded, Refused
from agent.logs import emit
from agent.operations.step_progress import StepProgress

Hold: TypeAlias = Callable[[str], AbstractContextManager[bool]]
Run: TypeAlias = "Callable[[Job, Steps], dict[str, Any]]"
log = logging.getLogger(__name__)


class Steps:
    """Runs and remembers the steps of one attempt. `report` receives the progress, at most four times a second."""

    def __init__(self, report: Callable[[Mapping[str, Any]], None], commit: Callable[[], None] = lambda: None) -> None:
        self._progress = StepProgress(report)
        self._commit = commit
        self.committed = False
        self.results: list[StepResult] = []

    @contextlib.contextmanager
    def step(self, name: str, *, no_return: bool = False) -> Iterator[None]:
        """A step: logged when it starts and when it ends, however it ends.

        From a step with `no_return` on, the operation can not be cancelled any more, in later attempts neither: that
        is on disk before the step starts, and a cancellation that came first ends the operation here.
        """
        if no_return and not self.committed:
            self._commit()
            self.committed = True
        started = time.monotonic()
        with trace.span(step=name):
            emit(log, logging.INFO, "step.started", f"{name} started")
            self._progress.begin(name)
            try:
                yield
            except BaseException as error:
                self._end(name, "refused" if isinstance(error, Refused) else "failed", started, error)
                raise
            self._end(name, "succeeded", started)

    def progress(self, done_bytes: int, total_bytes: int = 0, packed: Packed = NOTHING_PACKED) -> None:
        """Tells onlookers how far the current step is: of how many bytes (0: not known), and what was compressed."""
        self._progress.tell(done_bytes, total_bytes, packed)

    def _add(self, result: StepResult) -> None:
        """A step that ran for each of many things is one result, with its times together: a result stays small."""
        for index, known in enumerate(self.results):
            if (known.name, known.status) == (result.name, result.status):
                self.results[index] = StepResult(known.name, known.status, known.duration_ms + result.duration_ms)
                return
        self.results.append(result)

    def _end(self, name: str, status: Status, started: float, error: BaseException | None = None) -> None:
        duration_ms = round((time.monotonic() - started) * 1000)
        self._add(StepResult(name, status, duration_ms))
        fields: dict[str, object] = {"duration_ms": duration_ms, "status": status}
        if error is None:
            emit(log, logging.INFO, "step.finished", f"{name} took {duration_ms} ms", **fields)
            return
        if isinstance(error, AgentError):
            fields |= {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}
        emit(log, logging.ERROR, "step.failed", f"{name} {status}: {str(error) or type(error).__name__}", **fields)


@contextlib.contextmanager
def nobodys(op_id: str) -> Iterator[bool]:
    """Where nobody can tell, another operation's folder is not surely abandoned."""
    yield False


@dataclass(frozen=True)
class Operation:
    """What a worker has of an operation.

    `run` does the work and returns the result's output. One that may raise Parked has a `recheck`: a short look that
    renews what it holds outside and asks again; it raises Parked, or returns when the operation may go on.
    `farewell` gives back what it holds outside when it ends without another attempt.
    """

    run: Run
    recheck: "Callable[[Job, Steps], None] | None" = None
    farewell: "Callable[[Job, Steps], None] | None" = None


@dataclass(frozen=True)
class Job:
    """One attempt at a request: what is asked, who asks, where to work, and the time left (boot clock).

    `hold` keeps another operation from starting meanwhile, and tells whether what it left is surely abandoned.
    """

    request: Request
    attempt: int
    work_root: Path
    cluster: str
    node: str
    instance_id: str
    agent_version: str
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    time_left_s: Callable[[], float] = lambda: 3600.0
    hold: Hold = nobodys

    @property
    def folder(self) -> Path:
        """The folder of this attempt alone."""
        return self.work_root / self.request.op_id / str(self.attempt)

    def require_time(self) -> float:
        """The seconds left. Raises DeadlineExceeded."""
        left_s = self.time_left_s()
        if left_s <= 0:
            raise DeadlineExceeded(
                f"operation {self.request.op_id} ran out of its time", hint="raise snapshot.timeout_s or --timeout"
            )
        return left_s
