"""What `submit` and every mutating command share: a request under the caller's trace, handed over and awaited."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from agent import trace
from agent.adapters.spool import become_owner
from agent.bootstrap import configure_logs
from agent.cli.waiting import OnProgress, hand_over, wait_for_end
from agent.domain import request as requests
from agent.domain.request import Parking, Record, Request
from agent.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_STILL_RUNNING, AgentError, exit_code_of
from agent.logs import emit
from agent.node import Node

QUEUED = "queued"
log = logging.getLogger(__name__)


class Seconds(click.FloatRange):
    """A time to wait: from 0 on, and finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no time; leave the option out to wait until the end", param, ctx)
        return seconds


SECONDS = Seconds(min=0)


@dataclass(frozen=True)
class Answer:
    """What is known of an operation when the command ends: its state, and its record once it ended."""

    op_id: str
    trace_id: str
    state: str
    exit_code: int
    record: Record | None = None
    progress: Mapping[str, Any] | None = None
    parking: Parking | None = None

    def document(self) -> dict[str, Any]:
        """The answer as `--json` prints it."""
        document: dict[str, Any] = {"op_id": self.op_id, "trace_id": self.trace_id, "state": self.state}
        if self.record is not None:
            document["result"] = msgspec.to_builtins(self.record.result)
        if self.progress is not None:
            document["progress"] = dict(self.progress)
        if self.parking is not None:
            document["waits_for"] = msgspec.to_builtins(self.parking)
        return document


def ask(
    node: Node, operation: str, params: Mapping[str, str], *, op_id: str | None = None, requested_at: str | None = None,
    wait: bool, timeout_s: float | None, on_progress: OnProgress,
) -> Answer:  # fmt: skip
    """Hands a request over under the caller's trace and, if wanted, waits for its end."""
    open_spool(node)
    with traced(operation):
        request = make_request(operation, params, op_id=op_id, requested_at=requested_at)
        with trace.bound(op_id=request.op_id):
            generation = hand_over(node, request)
            if wait:
                return _awaited(node, request, generation, timeout_s, on_progress)
            if not node.daemon_is_there:
                click.echo("no daemon is running: it is queued and runs when one starts", err=True)
            return _unended(node, request, EXIT_OK)


def _awaited(
    node: Node, request: Request, generation: int, timeout_s: float | None, on_progress: OnProgress
) -> Answer:  # fmt: skip
    """Waits; the log says how long and what for, so that a trace shows what its caller was told."""
    started = time.monotonic()
    try:
        found = wait_for_end(node, request, generation, timeout_s, on_progress)
    except KeyboardInterrupt:
        click.echo(f"{request.op_id} goes on: `etcd-agent ops show {request.op_id}`", err=True)
        raise
    except AgentError as error:
        emit(log, logging.INFO, "request.answered", f"answered {error.code}", exit_code=error.exit_code,
             error_code=error.code, error_message=error.message, error_hint=error.hint,
             duration_ms=_since_ms(started))  # fmt: skip
        raise
    if found is None:
        answer = _unended(node, request, EXIT_STILL_RUNNING)
    else:
        record = found.record
        answer = Answer(request.op_id, record.request.trace_id, found.state, exit_code_for(record), record)
    emit(log, logging.INFO, "request.answered", f"answered {answer.state}", state=answer.state,
         exit_code=answer.exit_code, duration_ms=_since_ms(started))  # fmt: skip
    return answer


def _since_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


@contextlib.contextmanager
def traced(operation: str) -> Iterator[None]:
    """Binds the caller's trace, or a fresh one, and a span for this command."""
    inherited = inherited_trace(os.environ)
    with (
        trace.bound(
            trace_id=inherited.trace_id,
            parent_span_id=inherited.parent_span_id,
            operation=operation,
            ssm_command_id=os.environ.get("SSM_COMMAND_ID", ""),
        ),
        trace.span(),
    ):
        yield


def open_spool(node: Node) -> None:
    """Becomes the spool's owner and starts to log. Raises AgentError when the agent was never started here."""
    try:
        become_owner(node.paths.spool)
    except FileNotFoundError:
        if "ETCD_AGENT_ROOT" not in os.environ:
            raise AgentError(
                f"{node.paths.spool} does not exist", hint="start the agent once: `systemctl start etcd-agent`"
            ) from None
        node.spool.create()
    incoming = node.paths.spool / "incoming"
    if not os.access(incoming, os.R_OK | os.W_OK | os.X_OK):
        raise AgentError(f"{incoming} can not be written by this user", hint="run it as root, by sudo")
    configure_logs(node, to_stderr_from="WARNING")


def inherited_trace(environment: Mapping[str, str]) -> trace.Inherited:
    """The trace of TRACE_ID or TRACEPARENT, else a fresh one; what can not be read is told by a warning."""
    parent = trace.parse_inherited(environment.get("TRACEPARENT", ""))
    given = environment.get("TRACE_ID", "")
    if not given:
        return parent or trace.Inherited(trace.new_trace_id())
    inherited = trace.parse_inherited(given)
    if inherited is None:
        fresh = trace.Inherited(trace.new_trace_id())
        with trace.bound(trace_id=fresh.trace_id):
            emit(log, logging.WARNING, "trace.rejected", "TRACE_ID is no trace id; a fresh one is used",
                 rejected=trace.printable_excerpt(given))  # fmt: skip
        return fresh
    return parent if parent and parent.trace_id == inherited.trace_id else inherited


def make_request(
    operation: str, params: Mapping[str, str], *, op_id: str | None = None, requested_at: str | None = None
) -> Request:
    """A request out of a command's words and the bound trace. Raises BadInput."""
    context, now = trace.current(), datetime.now(UTC)
    request = requests.make(
        op_id=op_id if op_id is not None else f"{operation}-{trace.new_span_id()}",
        operation=operation,
        trace_id=context["trace_id"],
        span_id=context.get("span_id", ""),
        requested_at=requested_at or requests.format_moment(now),
        params=dict(params),
        source="ssm" if context.get("ssm_command_id") else "cli",
        ssm_command_id=context.get("ssm_command_id", ""),
    )
    requests.check_not_ahead(request.requested_at, now)
    return request


def exit_code_for(record: Record) -> int:
    """The exit code that a result means."""
    result = record.result
    if result is None or result.status == "succeeded":
        return EXIT_OK
    if result.status == "refused":
        return EXIT_REFUSED
    return exit_code_of(result.error.code) if result.error else EXIT_FAILED


def _unended(node: Node, request: Request, exit_code: int) -> Answer:
    found = node.spool.find(request.op_id)
    trace_id = found.record.request.trace_id if found else request.trace_id
    state = found.state if found and found.state != "incoming" else QUEUED
    progress = node.spool.read_progress(request.op_id) if exit_code else None
    parking = found.record.parking if found and found.state == "waiting" else None
    return Answer(request.op_id, trace_id, state, exit_code, progress=progress, parking=parking)
