"""A spool in which anything may be damaged, as `ops list`, `ops show` and `status` print it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypothesis import strategies as st

from agent.adapters.spool import FOLDERS
from agent.config import Paths
from agent.errors import EXIT_FAILED, EXIT_OK
from tests.fuzz import command, odd
from tests.fuzz.commands import stand_ins
from tests.fuzz.requests import ENDED, KINDS, NAMES, OP_ID, RUNNING, Placed, clear, put
from tests.fuzz.target import Check, Target

PROGRESS = {"step": "save", "bytes": 4096, "total_bytes": 8192, "percent": 50}
REASON = {"name": f"{OP_ID}.json", "reason": "no request", "rejected_at": "2026-01-31T12:00:00Z"}
SUCCEEDED = json.loads(json.dumps(ENDED).replace('"failed"', '"succeeded"'))
DAEMON_LOCKS = st.one_of(
    st.sampled_from([b"1\n", b"9" * 5000, b"\xff", "٣".encode(), b"-1", b""]), st.binary(max_size=9)
)
READS: Sequence[Sequence[str]] = (
    ["ops", "list"], ["ops", "list", "--json"], ["ops", "show", OP_ID], ["ops", "show", OP_ID, "--json"], ["status"],
    ["status", "--json"], ["submit", "snapshot", "--op-id", OP_ID, "--timeout", "0"],
    ["submit", "snapshot", "--op-id", OP_ID, "--timeout", "0", "--json"],
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Sequence[Placed], bytes, Sequence[str]]:
    """Files of one operation in some folders, what the daemon's lock holds, and the command that looks."""
    placed = []
    for state in draw(st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=4)):
        base = {"progress": PROGRESS, "rejected": REASON, "running": RUNNING}.get(state, ENDED)
        if state in ("done", "waiting"):
            base = SUCCEEDED
        name = f"{OP_ID}.json".encode() if draw(st.integers(0, 3)) else draw(NAMES)
        if state == "rejected":
            name = name[:200] + b".x.reason.json"
        placed.append(Placed(state, name, draw(odd.documents(base, 2)), draw(KINDS)))
    return placed, draw(DAEMON_LOCKS), draw(st.sampled_from(READS))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    paths = Paths(folder)
    for name in FOLDERS:
        (paths.spool / name).mkdir(parents=True)
    paths.locks.mkdir()
    paths.daemon_lock.parent.mkdir(parents=True)

    def check(case: tuple[Sequence[Placed], bytes, Sequence[str]]) -> None:
        placed, lock, words = case
        descriptor = os.open(paths.daemon_lock, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, lock)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for one in placed:
                put(paths.state, one)
            told = command.run(words, {"ETCD_AGENT_ROOT": str(folder)})
            command.require_in_order(told, words)
            if words[:2] == ["ops", "list"]:
                assert told.code == EXIT_OK, told
            if words[0] == "status":
                assert told.code in (EXIT_OK, EXIT_FAILED), told
                assert told.out, "not one part of the screen"
        finally:
            os.close(descriptor)
            for name in FOLDERS:
                clear(paths.spool / name)

    with stand_ins():
        yield check


TARGETS = (Target("spool views", "damaged files in the spool, for `ops` and `status`", 5, damaged(), opened),)
