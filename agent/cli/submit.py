"""`submit`: the door for SSM and scripts. Loads neither boto3, rich nor watchdog."""

import json

import click

from agent.cli import asking
from agent.domain.request import OPERATIONS
from agent.errors import BadInput
from agent.node import load_node


@click.command()
@click.argument("operation", metavar="OPERATION")
@click.option("--op-id", help="The idempotency key; the same one again returns or awaits the same work.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the operation.")
@click.option("--requested-at", metavar="TIME", help="The time of the event, UTC, as 2026-01-31T12:00:00Z.")
@click.option("--wait/--no-wait", default=True, help="Wait for the result (default), or return once it is queued.")
@click.option("--timeout", "timeout_s", type=asking.SECONDS, help="Seconds to wait; exit 4 when it still runs.")
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
    answer = asking.ask(
        load_node(flags), operation, _parsed(params), op_id=op_id, requested_at=requested_at, wait=wait,
        timeout_s=timeout_s, on_progress=lambda progress: None,
    )  # fmt: skip
    _print(answer, as_json)
    return answer.exit_code


def _parsed(params: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for param in params:
        name, separator, value = param.partition("=")
        if not separator:
            raise BadInput(f"--param {param[:64]!r} is not KEY=VALUE")
        pairs[name] = value
    return pairs


def _print(answer: asking.Answer, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer.document()))
        return
    click.echo(f"{answer.op_id}: {answer.state}  trace={answer.trace_id}")
    if answer.parking is not None:
        click.echo(
            f"it waits: [{answer.parking.rule}] {answer.parking.message}\n  next: {answer.parking.hint}", err=True
        )
    result = answer.record.result if answer.record else None
    if result is not None and result.error is not None:
        click.echo(f"{result.error.message}\n  next: {result.error.hint}", err=True)
