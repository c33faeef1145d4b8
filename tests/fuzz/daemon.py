"""A real daemon process, fed with files of any name and content: it lives, rejects with a reason, and serves."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from agent.adapters.spool import FOLDERS
from tests.fuzz import odd
from tests.fuzz.command import strictly_decoded
from tests.fuzz.requests import KINDS, NAMES, OP_ID, REQUEST, VERIFY, Placed, clear, contents, put
from tests.fuzz.target import Check, Target
from tests.integration.daemon_node import DaemonNode, Manager, node_in
from tests.sandbox.processes import Child, wait_until

LAST = "snapshot-the-last"


@st.composite
def dropped(draw: st.DrawFn) -> Placed:
    """A file for `incoming/`, under the name that it claims more often than not."""
    content = draw(st.one_of(contents, *map(odd.documents, (REQUEST, VERIFY))))
    name = draw(st.one_of(st.just(f"{OP_ID}.json".encode()), NAMES))
    return Placed("incoming", name, content, draw(KINDS))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    manager = Manager(folder / "notify")
    with contextlib.closing(manager), node_in(folder) as node:
        node.set_config("[daemon]\nstop_timeout_s = 1\nscan_interval_s = 1\n")  # a folder alone wakes nobody
        daemon = node.start(NOTIFY_SOCKET=str(manager.path))
        manager.until("READY=1")
        staging = node.root / "staging"
        (staging / "spool" / "incoming").mkdir(parents=True)

        def check(case: Placed) -> None:
            _drop(case, staging, node)
            wait_until(lambda: _is_answered(node, manager), f"{case} is neither taken nor rejected", child=daemon)
            assert daemon.is_running()

        yield check
        _require_served(node, daemon, manager)


def _drop(case: Placed, staging: Path, node: DaemonNode) -> None:
    """Whole from its first moment on, as a writer that follows the contract would put it; each op id is a new one."""
    fresh = f"snapshot-{secrets.token_hex(8)}".encode()
    own = replace(
        case, name=case.name.replace(OP_ID.encode(), fresh), content=case.content.replace(OP_ID.encode(), fresh)
    )
    put(staging, own)
    made = staging / "spool" / "incoming" / os.fsdecode(own.name)
    target = node.spool.folder / "incoming" / made.name
    if os.path.lexists(target):  # an unfinished write of that name, which stays
        clear(staging / "spool" / "incoming")
    else:
        made.rename(target)


def _is_answered(node: DaemonNode, manager: Manager) -> bool:
    """Nothing waits in `incoming/` but unfinished writes, which are nobody's."""
    manager.read_all()
    return not node.spool.names("incoming")


def _require_served(node: DaemonNode, daemon: Child, manager: Manager) -> None:
    """After all of it a good request ends well, and what was rejected has its reason."""
    node.submit(LAST)
    wait_until(lambda: _is_answered(node, manager), "a good request is not taken", child=daemon)
    assert node.until_ended(LAST).status == "succeeded"
    manager.read_all()
    assert daemon.is_running()
    assert not any("STOPPING=1" in told for told in manager.told)
    rejected = sorted(path.name for path in (node.spool.folder / "rejected").iterdir())
    for name in rejected:
        if not name.endswith(".reason.json"):
            assert json.loads((node.spool.folder / "rejected" / f"{name}.reason.json").read_bytes())["reason"]
    for line in node.log_file.read_bytes().split(b"\n"):
        if line:
            fields = strictly_decoded(line)
            assert fields["event"] not in ("worker.crashed", "operation.crashed", "command.crashed"), fields
            assert "exc_info" not in fields, fields
    assert "Traceback" not in daemon.log.read_text(errors="replace")
    assert {path.name for path in node.spool.folder.iterdir()} >= set(FOLDERS)


TARGETS = (Target("daemon", "files for a real daemon process", 0, dropped(), opened, most=400, most_in_short=8),)
