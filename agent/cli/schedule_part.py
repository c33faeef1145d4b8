"""The part `schedule` of `status`: what the newest look at the node's own schedule saw, out of its result."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.adapters.spool import ENDS
from agent.cli import tables
from agent.domain.cluster_health import Problem
from agent.domain.request import Result, parse_moment
from agent.domain.slots import MOST_LOOK_S
from agent.node import Node

PART = "schedule"
STALE_AFTER_S = 3 * MOST_LOOK_S
TOLD = ("decision", "reason", "look_again_in_s", "newest_good", "age_s", "due_in_s", "missed", "slot", "store_away")


def describe(node: Node, problems: list[Problem], now: datetime) -> dict[str, Any]:
    """Whether it is on, the newest look, and what follows from it by now; adds what is wrong. Raises BadInput."""
    if not node.config.snapshot.schedule:
        return {"on": False, "looked_at": None, "failed": False}
    result = _newest_look(node)
    output = dict(result.output) if result is not None else {}
    if result is not None and result.error is not None:
        what = f"the newest look, at {result.finished_at}, failed: {result.error.message}"
        problems.append(Problem(PART, what, result.error.hint or f"`etcd-agent ops show {node.look_op_id}`"))
    document: dict[str, Any] = {
        "on": True, "failed": result is not None and result.error is not None,
        "looked_at": output.get("looked_at"), "max_age_s": node.config.snapshot.max_age_s,
        **{name: output.get(name) for name in TOLD},
    }  # fmt: skip
    if document["looked_at"] is None:
        return document
    since_s = max(0.0, (now - parse_moment(document["looked_at"])).total_seconds())
    document["looked_s"] = round(since_s)
    if document["due_in_s"] is not None:
        document["due_in_s"] = round(document["due_in_s"] - since_s)
    problems += _problems(node, document, since_s)
    return document


def line(part: Mapping[str, Any]) -> str:
    """The part in a line."""
    if not part["on"]:
        return "off by snapshot.schedule"
    if part["looked_at"] is None:
        return "on, the newest look failed" if part["failed"] else "on, no look yet"
    due = "" if part["due_in_s"] is None else f"; next due {_in(part['due_in_s'])}"
    missed = f"; {part['missed']} missed" if part["missed"] else ""
    slot = (
        ""
        if part["slot"] is None
        else f"; slot {part['slot']['slot']} {part['slot']['state']} by {part['slot']['node']}"
    )
    return f"looked {tables.age(part['looked_s'])} ago: {part['reason']}{due}{missed}{slot}"


def _newest_look(node: Node) -> Result | None:
    """What came of the newest look that ended."""
    if not node.paths.spool.exists():
        return None
    for state in ENDS:
        try:
            return node.spool.read(state, node.look_op_id).result
        except FileNotFoundError:
            continue
    return None


def _problems(node: Node, document: Mapping[str, Any], since_s: float) -> list[Problem]:
    found = []
    if document["missed"]:
        what = f"{document['missed']} slots were missed: {document['reason']}"
        found.append(Problem(PART, what, 'docs/operations.md, "A slot was missed"; `etcd-agent snapshot create` now'))
    if since_s > STALE_AFTER_S and node.daemon_is_there:
        what = f"nobody looked for {tables.age(since_s)}"
        found.append(Problem(PART, what, "what holds the slot `backup` up? `etcd-agent ops list`"))
    return found


def _in(due_in_s: float) -> str:
    return f"in {tables.age(due_in_s)}" if due_in_s > 0 else "now"
