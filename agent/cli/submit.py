"""`submit`: the door for SSM and scripts. Loads neither boto3, rich nor watchdog."""

import json
import os
from collections.abc import Mapping
from typing import Any

import click

from agent import bootstrap, trace
from agent.cli import waiting
from agent.domain.request import OPERATIONS, Record
from agent.errors import EXIT_OK, BadInput, StillRunning


@click.command()
@click.argument("operation", metavar="OPERATION")
@click.option("--op-id", help="The idempotency key; the same one again returns or awaits the same work.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the operation.")
@click.option("--requested-at", metavar="TIME", help="The time of the event, UTC, as 2026-01-31T12:00:00Z.")
@click.option("--wait/--no-wait", default=True, help="Wait for the result (default), or return once it is queued.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), help="Seconds to wait; exit 4 when it still runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
@click.pass_obj
def submit(
    flags: tuple[str, ...], operation: str, op_id: str | None, params: tuple[str, ...], requested_at: str | None,
    wait: bool, timeout_s: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Hand OPERATION to the daemon and wait for its result.

    The trace comes from TRACE_ID (and TRACEPARENT). Exit codes: 0 succeeded, 1 failed, 2 bad input, 3 refused
    by a safety rule, 4 still running when the wait ended, 5 no daemon is there.
    """
    if operation not in OPERATIONS:
        raise BadInput(f"operation {operation!r} does not exist", hint=f"operations: {', '.join(sorted(OPERATIONS))}")
    node = bootstrap.load_node(flags)
    waiting.open_spool(node)
    inherited = waiting.inherited_trace(os.environ)
    ssm_command_id = os.environ.get("SSM_COMMAND_ID", "")
    with (
        trace.bound(
            trace_id=inherited.trace_id,
            parent_span_id=inherited.parent_span_id,
            operation=operation,
            ssm_command_id=ssm_command_id,
        ),
        trace.span(),
    ):
        request = waiting.make_request(operation, _parsed(params), op_id=op_id, requested_at=requested_at)
        with trace.bound(op_id=request.op_id):
            generation = waiting.hand_over(node, request)
            if not wait:
                if not node.daemon_is_there:
                    click.echo("no daemon is running: it is queued and runs when one starts", err=True)
                _print({"op_id": request.op_id, "trace_id": request.trace_id, "state": "queued"}, as_json)
                return EXIT_OK
            found = waiting.wait_for_end(node, request.op_id, generation, timeout_s, lambda progress: None)
            if found is None:
                return _still_running(node, request.op_id, request.trace_id, as_json)
    _print(_told(found.record, found.state), as_json)
    return waiting.exit_code_for(found.record)


def _parsed(params: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for param in params:
        name, separator, value = param.partition("=")
        if not separator:
            raise BadInput(f"--param {param[:64]!r} is not KEY=VALUE")
        pairs[name] = value
    return pairs


def _still_running(node: bootstrap.Node, op_id: str, trace_id: str, as_json: bool) -> int:
    found = node.spool.find(op_id)
    progress = node.spool.read_progress(op_id)
    state = found.state if found else "unknown"
    _print({"op_id": op_id, "trace_id": trace_id, "state": state, "progress": progress}, as_json)
    return StillRunning.exit_code


def _told(record: Record, state: str) -> dict[str, Any]:
    import msgspec

    answer = {"op_id": record.request.op_id, "trace_id": record.request.trace_id, "state": state}
    return answer | {"result": msgspec.to_builtins(record.result)}


def _print(answer: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(f"{answer['op_id']}: {answer['state']}  trace={answer['trace_id']}")
    error = (answer.get("result") or {}).get("error")
    if error:
        click.echo(f"{error['message']}\n  next: {error['hint']}", err=True)
