"""The spool filled to its bound while the node's processes are killed: each request that was taken is there once."""

import json
import time
from collections import Counter
from datetime import UTC, datetime

from agent.adapters.spool import Spool
from agent.domain import request as requests
from agent.domain.request import Record
from agent.errors import SpoolFull
from tests.chaos import invariants
from tests.chaos.deliveries import output_of
from tests.chaos.place import Node

ONE_MORE = "flood-one-too-many"
MOST = 2000  # would mean that there is no bound
ENDED_FIRST = 2


def fill(node: Node, name: str, last_kill_at: float) -> list[str]:
    """Hands requests over until the spool takes no more. Returns the op ids that were taken. Raises RuntimeError.

    `last_kill_at` is on the monotonic clock: it goes on until then, since the daemon takes from the other end.
    """
    spool = Spool(node.state / "spool")
    taken: list[str] = []
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    is_full = False
    while len(taken) < MOST and not (is_full and time.monotonic() > last_kill_at):
        op_id = f"flood-{name}-{len(taken):04d}"
        node.tend()
        try:
            spool.submit(Record(requests.make(
                op_id=op_id, operation="snapshot", trace_id="6" * 32, requested_at=now)))  # fmt: skip
        except SpoolFull:
            is_full = True
            time.sleep(0.05)
        else:
            taken.append(op_id)
    if not is_full:
        raise RuntimeError(f"the spool took {len(taken)} requests and was not full")
    return taken


def problems(node: Node, taken: list[str]) -> list[str]:
    """What is wrong once some of them ended and the service was stopped: lost ones, doubled ones, one too many."""
    node.until(lambda: len(node.spool("done")) >= ENDED_FIRST, "nothing of the flood ends")
    told = _one_more(node)
    node.stop_daemon()
    where: dict[str, list[str]] = {}
    for state in ("incoming", "running", "done", "failed", "refused"):
        for path in node.spool(state):
            if not path.name.startswith("."):
                where.setdefault(path.stem, []).append(state)
    told += [f"lost: {op_id}" for op_id in taken if op_id not in where]
    told += [f"{op_id} is in {states}" for op_id, states in where.items() if len(states) > 1]
    told += [f"nobody handed over {op_id}" for op_id in where.keys() - {*taken, ONE_MORE}]
    manifests = Counter(manifest["op_id"] for manifest in invariants.stored(node).manifests.values())
    told += [f"{op_id} has {number} manifests" for op_id, number in manifests.items() if number != 1]
    told += [f"{op_id} is done and has no manifest" for op_id, states in where.items()
             if states == ["done"] and not manifests[op_id]]  # fmt: skip
    return told


def _one_more(node: Node) -> list[str]:
    """While it is full a command is told so, and nothing of its request is kept."""
    if len(node.spool("incoming")) < 1000:
        return []
    child = node.submit("--op-id", ONE_MORE, "--no-wait")
    node.until(lambda: not child.is_running(), "submit does not end")
    if child.process.returncode == 1 and "are not taken" in output_of(child):
        return []
    if child.process.returncode == 0:  # the daemon took one meanwhile, so there was room
        known = [json.loads(path.read_text()) for path in node.spool("incoming") if path.stem == ONE_MORE]
        return [] if known else ["submit said that it is queued, and it is not there"]
    return [f"one too many was answered with {child.process.returncode}: {output_of(child)}"]
