"""Real folders and real workers, with an intake that the test drives instead of a daemon."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import process
from agent.adapters.spool import ENDS, Spool
from agent.domain import request as requests
from agent.domain.request import Record, Result
from agent.intake import Intake
from agent.logs import ContextFilter
from agent.workers import Running
from tests.sandbox.processes import wait_until
from tests.setup.debian import PROJECT

FIRST, SECOND = "snapshot-1111", "snapshot-2222"


def record(op_id: str = FIRST, *, generation: int = 1, results: tuple[Result, ...] = (), **changes: Any) -> Record:
    fields = {"op_id": op_id, "operation": "snapshot", "trace_id": "1" * 32, "requested_at": "2026-01-31T12:00:00Z"}
    return Record(requests.make(**fields | changes), generation, results=results)


@dataclass
class Node:
    """One node's folders; `cycle` is one turn of the daemon's loop."""

    root: Path
    timeout_s: int = 60

    def __post_init__(self) -> None:
        self.spool = Spool(self.root / "spool")
        self.spool.create()
        for name in ("locks", "work", "script"):
            (self.root / name).mkdir()
        self.forgotten = list[Running]()  # workers of former daemons
        self.intake = self.new_intake()

    def new_intake(self) -> Intake:
        """As a daemon makes it when it starts."""
        return Intake(
            spool=self.spool, locks=self.root / "locks", work=self.root / "work",
            timeout_s=lambda operation: self.timeout_s,
            worker_argv=[sys.executable, "-m", "tests.integration.scripted_worker", str(self.root)],
            environment={**os.environ, "PYTHONPATH": str(PROJECT)}, clean_up_s=0.3,
        )  # fmt: skip

    def script(self, op_id: str, words: str) -> None:
        (self.root / "script" / op_id).write_text(words)

    def submit(self, one: Record, words: str = "succeed") -> None:
        self.script(one.request.op_id, words)
        assert self.spool.submit(one)

    def cycle(self) -> None:
        """One turn of the daemon's loop."""
        self.intake.cycle()

    def until(self, *op_ids: str) -> None:
        def all_ended() -> bool:
            self.cycle()
            found = [self.spool.find(op_id) for op_id in op_ids]
            return all(one is not None and one.state in ENDS for one in found) and not self.intake.workers.all()

        wait_until(all_ended, f"{op_ids} do not end")

    def until_started(self, op_id: str, attempt: int = 1) -> int:
        """The pid of that attempt's worker."""

        def started() -> bool:
            self.cycle()
            return any(line[:2] == [op_id, str(attempt)] for line in self.ran())

        wait_until(started, f"attempt {attempt} of {op_id} does not start")
        return next(int(line[3]) for line in self.ran() if line[:2] == [op_id, str(attempt)])

    def result(self, op_id: str) -> Result:
        found = self.spool.find(op_id)
        assert found is not None
        assert found.record.result is not None
        return found.record.result

    def ran(self) -> list[list[str]]:
        path = self.root / "ran"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def go_on(self) -> None:
        (self.root / "go-on").touch()

    def reasons(self) -> list[dict[str, str]]:
        return [json.loads(path.read_text()) for path in (self.spool.folder / "rejected").glob("*.reason.json")]

    def nothing_is_left(self) -> bool:
        names = [name for state in ("incoming", "running", "progress") for name in self.spool.names(state)]
        return not names and not list((self.root / "work").iterdir())


@contextmanager
def node_in(folder: Path) -> Iterator[Node]:
    """A node whose workers are all gone afterwards."""
    made = Node(folder)
    yield made
    for running in [*made.intake.workers.all(), *made.forgotten]:
        process.kill_group(running.process.pid, running.op_id)
        running.process.child.wait()


@contextmanager
def traced(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Lines get the context that is bound when they are written, as the log file's do."""
    context = ContextFilter({})
    caplog.handler.addFilter(context)
    yield
    caplog.handler.removeFilter(context)


def traces_of(event: str, caplog: pytest.LogCaptureFixture) -> set[object]:
    return {vars(line).get("trace_id") for line in caplog.records if vars(line).get("event") == event}


def started_by_a_former_daemon(node: Node, words: str) -> int:
    """An operation whose worker lives while its daemon does not. Returns the worker's pid."""
    node.submit(record(), words)
    pid = node.until_started(FIRST)
    node.forgotten += node.intake.running.values()
    node.intake = node.new_intake()
    return pid
