"""`ops`: what was asked of this node, how far it is, how it ended, and its cancellation."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from agent.adapters.spool import ENDS, LIVE_STATES, SUFFIX, Found
from agent.cli import asking, operation_views, tables
from agent.cli.reading import reading, require_spool
from agent.domain.request import is_op_id
from agent.errors import AgentError, BadInput
from agent.node import Node, load_node

STATES = (*LIVE_STATES, *ENDS, "rejected")
MOST_SHOWN = 50


@click.group()
def ops() -> None:
    """Operations, whether queued, running or ended."""


@ops.command(name="list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; can be repeated.")
@click.option("--limit", default=MOST_SHOWN, show_default=True, type=click.IntRange(min=0), help="0 shows all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, which has all of them.")
@click.pass_obj
def list_(flags: tuple[str, ...], states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """What this node was asked for, the newest first. Results are kept 15 days."""
    with reading(flags) as node:
        require_spool(node)
        now = datetime.now(UTC)
        seen: dict[str, dict[str, Any]] = {}
        for row in _rows(node, states or STATES, now):
            seen.setdefault(f"{row['op_id']} {row['state'] == 'rejected'}", row)  # one that moved on is seen twice
        rows = sorted(seen.values(), key=lambda row: str(row["since"]), reverse=True)
    if as_json:
        tables.print_json({"operations": rows})
        return
    operation_views.print_list(rows, rows[:limit] if limit else rows, now)


@ops.command()
@click.argument("op_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def show(flags: tuple[str, ...], op_id: str, as_json: bool) -> None:
    """All that is known of operation OP_ID: its steps, its result or how far it is."""
    require_op_id(op_id)
    with reading(flags) as node:
        require_spool(node)
        found = known(node, op_id)
        progress = node.spool.read_progress(op_id)
    document = {
        "state": found.state, **msgspec.to_builtins(found.record), "result": msgspec.to_builtins(found.record.result),
        "progress": progress or None,
    }  # fmt: skip
    if as_json:
        tables.print_json(document)
        return
    operation_views.print_operation(found.state, found.record, progress, datetime.now(UTC))


@ops.command()
@click.argument("op_id")
@click.option("--wait/--no-wait", default=True, help="Wait for its end (default), or return once that is asked.")
@click.option("--timeout", "timeout_s", type=asking.SECONDS, help="Seconds to wait; exit 4 when it has not ended.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, or why not, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def cancel(
    flags: tuple[str, ...], op_id: str, wait: bool, timeout_s: float | None, dry_run: bool, as_json: bool
) -> int:
    """End operation OP_ID without its result, for good.

    What waits never starts; what runs is asked to clean up, and killed 5 s later. What has ended keeps its result
    (exit 1), and what passed its point of no return goes on (exit 3).
    """
    from agent.cli import cancelling

    require_op_id(op_id)
    if dry_run:
        with reading(flags) as node:
            require_spool(node)
            return cancelling.print_plan(known(node, op_id), node.daemon_is_there, as_json)
    node = load_node(flags)
    asking.open_spool(node)
    return cancelling.cancel(node, known(node, op_id), wait, timeout_s, as_json)


def _rows(node: Node, states: tuple[str, ...], now: datetime) -> Iterator[dict[str, Any]]:
    for state in states:
        if state == "rejected":
            yield from (
                {"state": state, "op_id": str(told.get("name", "")).removesuffix(SUFFIX),
                 "since": str(told.get("rejected_at", "")), "message": str(told.get("reason", ""))}
                for told in node.spool.rejections.all()
            )  # fmt: skip
            continue
        for name in node.spool.names(state):
            op_id = name.removesuffix(SUFFIX)
            try:
                yield operation_views.row(state, node.spool.read(state, op_id), now)
            except FileNotFoundError:
                continue  # it moved on while we looked, and shows in its next state
            except BadInput as error:
                yield {"state": state, "op_id": op_id, "since": "", "message": f"damaged: {error.message}"}


def require_op_id(text: str) -> None:
    """Raises BadInput when it can not be one."""
    if not is_op_id(text):
        raise BadInput(f"{text[:80]!r} is no operation id", hint="`etcd-agent ops list` shows them")


def known(node: Node, op_id: str) -> Found:
    """Where the operation is. Raises AgentError when this node does not know it."""
    found = node.spool.find(op_id)
    if found is None:
        raise _unknown(node, op_id)
    return found


def _unknown(node: Node, op_id: str) -> AgentError:
    reason = node.spool.rejections.last(op_id)
    if reason:
        return AgentError(f"{op_id} was rejected: {reason}", hint="correct the request and submit it again")
    return AgentError(
        f"this node knows no operation {op_id}",
        hint="`etcd-agent ops list` shows what it knows; results are kept 15 days, and each node has its own",
    )
