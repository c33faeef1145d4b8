"""Any command line of known commands with odd values, on a node of which anything may be there or not."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from agent import bootstrap, worker
from agent.adapters import process
from agent.adapters.process import Completed
from agent.adapters.spool import FOLDERS
from agent.cli import waiting
from agent.config import Paths
from tests.fuzz import command, odd
from tests.fuzz.etcd_answers import ANSWERS
from tests.fuzz.requests import ENDED, OP_ID, clear
from tests.fuzz.target import Check, Target
from tests.fuzz.traces import TRACE_ID

WORDS: Sequence[Sequence[str]] = (
    ["config", "show"], ["ops", "list"], ["ops", "show", OP_ID], ["run"], ["snapshot", "create"], ["status"],
    ["snapshot", "list"], ["snapshot", "show", "latest"], ["snapshot", "verify", "latest"], ["trace", TRACE_ID],
    ["submit", "snapshot"], ["submit", "verify", "--param", "id=latest"], ["worker", OP_ID], [], ["snapshot"], ["ops"],
    ["submit", "snapshot", "--op-id", OP_ID], ["trace", TRACE_ID, "/dev/null"],
    ["member", "list"],
)  # fmt: skip
OPTIONS = (
    "--json", "--help", "-h", "--version", "--wait", "--no-wait", "--dry-run", "--all", "--emergency", "--timeout=0",
    "--timeout=nan", "--timeout=inf", "--timeout=1e999", "--timeout=-1", "--timeout", "--limit=0", "--limit=-1",
    "--limit=99999999999999999999", "--state=done", "--state=rejected", "--state", "--op-id=snapshot-2222",
    "--op-id=--------", "--op-id=", "--op-id=../../etc/x", "--op-id=a\nbbbbbbb", "--param=emergency=true",
    "--param=id=$(id)", "--param", "--param=", "--requested-at=2026-01-31T12:00:00Z", "--requested-at=tomorrow",
    "--requested-at=9999-12-31T23:59:59Z", "--", "-", "--set=log.level=DEBUG", "--set", "--unknown",
)  # fmt: skip
VARIABLES: Sequence[dict[str, str]] = (
    {}, {"TRACE_ID": TRACE_ID}, {"TRACE_ID": "\udcff$(id)\n"}, {"TRACEPARENT": "00-x"}, {"COLUMNS": "0"},
    {"COLUMNS": "7"}, {"SSM_COMMAND_ID": "5ec0de00-0000-4000-8000-000000000001"}, {"SSM_COMMAND_ID": "\udcff;"},
    {"NO_COLOR": "1", "TERM": "dumb"}, {"FORCE_COLOR": "1"}, {"ETCD_AGENT_LOG__PATH": "/nowhere/x"},
    {"ETCD_AGENT_STORE__KIND": "s3"}, {"ETCD_AGENT_ETCD__ENDPOINTS": "http://a:1,http://b:2"},
    {"ETCD_AGENT_STORE__PATH": "/etc/passwd"}, {"ETCD_AGENT_ROOT": "relative"}, {"LC_ALL": "C"},
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A command line, the variables around it, and whether a spool and a former operation are there."""

    words: Sequence[str]
    variables: dict[str, str]
    spool: bool
    known: bool


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A known command with options of its own and of others, words changed, dropped, doubled, or put elsewhere."""
    words = list(draw(st.sampled_from(WORDS)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words)))
        how = draw(st.integers(0, 5))
        if how <= 2:
            words.insert(len(words) if how else at, draw(st.sampled_from(OPTIONS)))
        elif how == 3:
            words.insert(at, draw(odd.odd_texts))
        elif words:
            at = min(at, len(words) - 1)
            words[at] = draw(odd.texts_near(words[at])) if how == 4 else words[0]
    variables = dict(draw(st.sampled_from(VARIABLES)))
    words = [odd.as_os_text(word)[:5000] for word in words]
    return Line(words, variables, draw(st.integers(0, 4)) > 0, draw(st.booleans()))


def answered(argv: Sequence[str], **options: Any) -> Completed:
    """etcdctl as it answers on a healthy node."""
    line = " ".join(argv)
    for word, name in (("endpoint status", "status"), ("member list", "members"), ("alarm list", "alarms")):
        if word in line:
            return Completed(tuple(argv), 0, json.dumps(ANSWERS[name][0]), "")
    return Completed(tuple(argv), 0, json.dumps(ANSWERS["revision"][0]), "")


class Stopped:
    """Stands for the daemon, which would serve for ever."""

    def run(self) -> None:
        """Ends at once."""


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """What would start programs, serve, end this process or wait for a daemon is put away."""
    with (
        mock.patch.object(process, "run", answered),
        mock.patch.object(process, "find", lambda name, folder="": f"/usr/bin/{name}"),
        mock.patch.object(bootstrap, "make_daemon", lambda node: Stopped()),
        mock.patch.object(worker, "exit_process", lambda code: None),
        mock.patch.object(waiting, "NO_DAEMON_WAIT_S", 0.0),
        mock.patch.object(waiting, "GONE_WAIT_S", 0.0),
        mock.patch("signal.signal"),
    ):
        yield


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    paths = Paths(folder)

    def check(case: Line) -> None:
        try:
            if case.spool:
                for name in FOLDERS:
                    (paths.spool / name).mkdir(parents=True)
                paths.locks.mkdir()
            if case.spool and case.known:
                (paths.spool / "done" / f"{OP_ID}.json").write_text(json.dumps(ENDED))
                (paths.spool / "running" / f"{OP_ID}.json").write_text(json.dumps(ENDED | {"results": []}))
            told = command.run(case.words, {"ETCD_AGENT_ROOT": str(folder), "PATH": "/usr/bin", **case.variables})
            command.require_in_order(told, case.words)
        finally:
            clear(folder)

    with stand_ins():
        yield check


TARGETS = (Target("commands", "command lines", 6, lines(), opened),)
