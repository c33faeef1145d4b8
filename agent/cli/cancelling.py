"""`ops cancel`: what it would do, asking for it durably, and what came of it."""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from agent import trace
from agent.adapters.spool import ENDS, Found
from agent.cli import asking, tables
from agent.cli.waiting import wait_for_end
from agent.domain.cancellation import Cancellation
from agent.domain.request import Record, format_moment
from agent.errors import EXIT_OK, EXIT_STILL_RUNNING, AgentError, AlreadyEnded, Cancelled, NoDaemon, Refused
from agent.logs import emit
from agent.node import Node

SURE_AFTER_S = 1.0
PLANS = {
    "incoming": "it ends before it starts",
    "waiting": "it ends instead of waiting on",
    "running": "its worker is asked to clean up, and killed with all its children 5 s later",
}
log = logging.getLogger(__name__)


def print_plan(found: Found, daemon_is_there: bool, as_json: bool) -> int:
    """Says what a cancellation would do now. Returns the exit code that it would end with."""
    error = _why_not(found)
    document = {
        "dry_run": True, "op_id": found.record.request.op_id, "state": found.state,
        "generation": found.record.generation, "would_cancel": error is None,
        "plan": PLANS[found.state] if error is None else "", "daemon_is_there": daemon_is_there,
        "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    }  # fmt: skip
    if as_json:
        tables.print_json(document)
    elif error is None:
        click.echo(f"{document['op_id']} is {found.state}: {document['plan']}; nothing was changed")
    else:
        click.echo(f"nothing would be cancelled: {error.message}\n  next: {error.hint}")
    return EXIT_OK if error is None else error.exit_code


def cancel(node: Node, found: Found, wait: bool, timeout_s: float | None, as_json: bool) -> int:
    """Asks for the end of that generation and, if wanted, waits for it. Returns the exit code."""
    record = found.record
    op_id = record.request.op_id
    with asking.traced(record.request.operation), trace.bound(op_id=op_id):
        trace_id = trace.current()["trace_id"]
        if _was_cancelled(found):
            return _print(found, trace_id, as_json)
        if (error := _why_not(found)) is not None:
            raise error
        _ask(node, found)
        ended = _awaited(node, record, timeout_s) if wait else None
        if ended is not None and not _was_cancelled(ended):
            raise _ended(ended)
        if not wait and not node.daemon_is_there:
            click.echo("no daemon is running: the cancellation is kept and counts when one starts", err=True)
        _print(ended or node.spool.find(op_id) or found, trace_id, as_json)
    return EXIT_STILL_RUNNING if wait and ended is None else EXIT_OK


def _ask(node: Node, found: Found) -> None:
    context, record = trace.current(), found.record
    op_id = record.request.op_id
    moment = format_moment(datetime.now(UTC))
    asked = Cancellation(op_id, record.generation, context["trace_id"], moment, context.get("span_id", ""))
    first = node.spool.cancellations.ask(asked)
    emit(
        log, logging.INFO, "cancel.asked", f"asked for the end of {op_id}{'' if first else ', as before'}",
        operation_trace_id=record.request.trace_id, state=found.state, generation=record.generation,
    )  # fmt: skip


def _awaited(node: Node, record: Record, timeout_s: float | None) -> Found | None:
    op_id = record.request.op_id
    committed_since: list[float] = []

    def look(progress: Mapping[str, Any]) -> None:
        """The mark of the point of no return may be taken back at once, so it has to stand for a while."""
        found = node.spool.find(op_id)
        if found is None or found.state in ENDS or not found.record.committed:
            committed_since.clear()
        elif not committed_since:
            committed_since.append(time.monotonic())
        elif time.monotonic() - committed_since[0] >= SURE_AFTER_S:
            raise _too_late(found)

    try:
        return wait_for_end(node, record.request, record.generation, timeout_s, look)
    except NoDaemon as error:
        raise NoDaemon(
            f"the cancellation of {op_id} is kept and counts as soon as the daemon is back", hint=error.hint
        ) from None


def _why_not(found: Found) -> AgentError | None:
    if found.state in ENDS:
        return _ended(found)
    return _too_late(found) if found.record.committed else None


def _ended(found: Found) -> AlreadyEnded:
    op_id = found.record.request.op_id
    return AlreadyEnded(
        f"{op_id} has ended already and keeps its result: {found.state}", hint=f"`etcd-agent ops show {op_id}`"
    )


def _too_late(found: Found) -> Refused:
    op_id = found.record.request.op_id
    return Refused(
        f"[no-return] {op_id} passed the point from which it can not be cancelled any more, and goes on",
        rule="no-return",
        hint=f"wait for its end: `etcd-agent ops show {op_id}`",
    )


def _was_cancelled(found: Found) -> bool:
    result = found.record.result
    return result is not None and result.error is not None and result.error.code == Cancelled.code


def _print(found: Found, cancel_trace_id: str, as_json: bool) -> int:
    request, result = found.record.request, found.record.result
    cancelled = _was_cancelled(found)
    if as_json:
        tables.print_json({
            "op_id": request.op_id, "trace_id": request.trace_id, "cancel_trace_id": cancel_trace_id,
            "state": found.state, "cancelled": cancelled, "result": msgspec.to_builtins(result),
        })  # fmt: skip
    elif cancelled and result is not None and result.error is not None:
        click.echo(result.error.message)
    else:
        click.echo(f"asked for the end of {request.op_id}, which is {found.state}: etcd-agent ops show {request.op_id}")
    return EXIT_OK
