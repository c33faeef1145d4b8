"""A node with a real daemon and real commands, whose workers do what the test wrote down."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.adapters.spool import ENDS, Spool
from agent.domain import request as requests
from agent.domain.request import Record, Result
from tests.integration import scripted_operations
from tests.sandbox.processes import Child, Processes, wait_until
from tests.setup.debian import PROJECT


class ScriptedNode:
    """One `ETCD_AGENT_ROOT`; the daemon is started and ended by the test."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        scripted_operations.register()
        self.root = folder / "root"
        self.state = self.root / "var/lib/etcd-agent"
        self._processes = processes
        self.spool = Spool(self.state / "spool")
        (self.state / "script").mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.root), "ETCD_AGENT_ROOT": str(self.root), "LANG": "C.UTF-8",
            "PYTHONPATH": str(PROJECT),
        }  # fmt: skip

    def start(self, *worker_argv: str, **environment: str) -> Child:
        """A daemon that serves, by its log."""
        before = self.count("daemon.started")
        argv = [sys.executable, "-m", "tests.integration.scripted_daemon", *worker_argv]
        daemon = self._processes.start("daemon", argv, self.environment | environment)
        wait_until(lambda: self.count("daemon.started") > before, "the daemon does not serve", child=daemon)
        return daemon

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agent", *arguments]

    def command(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*arguments), env=self.environment | environment, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip

    def record(self, op_id: str, **changes: Any) -> Record:
        fields = {"operation": "snapshot", "trace_id": "1" * 32, "requested_at": "2026-01-31T12:00:00Z"} | changes
        return Record(requests.make(op_id=op_id, **fields))

    def script(self, op_id: str, words: str) -> None:
        (self.state / "script" / op_id).write_text(words)

    def submit(self, op_id: str, words: str = "succeed", **changes: Any) -> None:
        self.script(op_id, words)
        assert self.spool.submit(self.record(op_id, **changes))

    def until_ended(self, op_id: str, generation: int = 1) -> Result:
        def ended() -> bool:
            found = self.spool.find(op_id)
            return found is not None and found.state in ENDS and found.record.generation >= generation

        wait_until(ended, f"{op_id} does not end")
        return self.result(op_id)

    def result(self, op_id: str) -> Result:
        found = self.spool.find(op_id)
        assert found is not None
        assert found.record.result is not None
        return found.record.result

    def until_started(self, op_id: str, times: int = 1) -> int:
        """The pid of the worker that started it for that time."""
        wait_until(lambda: len(self.ran(op_id)) >= times, f"{op_id} does not start {times} times")
        return int(self.ran(op_id)[times - 1][3])

    def ran(self, op_id: str = "") -> list[list[str]]:
        """`OP_ID ATTEMPT WORD PID` of each start, in their order."""
        path = self.state / "ran"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if not op_id or line[0] == op_id]

    def go_on(self) -> None:
        (self.state / "go-on").touch()

    def lines(self) -> list[dict[str, Any]]:
        path = self.root / "var/log/etcd-agent/agent.jsonl"
        worker = self.state / "agent.jsonl"
        text = "".join(one.read_text() for one in (path, worker) if one.exists())
        return [json.loads(line) for line in text.splitlines()]

    def count(self, event: str) -> int:
        return len(self.events(event))

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def nothing_is_left(self, states: Sequence[str] = ("incoming", "waiting", "running", "progress")) -> bool:
        names = [name for state in states for name in self.spool.names(state)]
        return not names and not list((self.state / "work").iterdir())

    def end_workers(self) -> None:
        """Kills what still runs of workers and what they started."""
        mark = f"ETCD_AGENT_ROOT={self.root}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        os.kill(int(entry.name), signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def node_in(folder: Path) -> Iterator[ScriptedNode]:
    """A node whose processes are all gone afterwards."""
    with Processes(folder / "logs") as processes:
        node = ScriptedNode(folder, processes)
        try:
            yield node
        finally:
            node.go_on()
    node.end_workers()
