"""Handing a request to the daemon and waiting for its result; what `submit` and every mutating command share."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from agent import trace
from agent.adapters.spool import ENDS, Found, become_owner
from agent.bootstrap import Node, configure_logs
from agent.domain import request as requests
from agent.domain.request import Record, Request
from agent.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, AgentError, BadInput, NoDaemon, exit_code_of
from agent.logs import emit

NO_DAEMON_WAIT_S = 10.0
POLL_FIRST_S = 0.02
POLL_MOST_S = 0.25
RESULTS_CARRIED = 10
log = logging.getLogger(__name__)


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
    context = trace.current()
    return requests.make(
        op_id=op_id if op_id is not None else f"{operation}-{trace.new_span_id()}",
        operation=operation,
        trace_id=context["trace_id"],
        span_id=context.get("span_id", ""),
        requested_at=requested_at or requests.format_moment(datetime.now(UTC)),
        params=dict(params),
        source="ssm" if context.get("ssm_command_id") else "cli",
        ssm_command_id=context.get("ssm_command_id", ""),
    )


def hand_over(node: Node, request: Request) -> int:
    """Puts the request into the spool, or joins what is known under its op id. Returns the generation to wait for."""
    while True:
        found = node.spool.find(request.op_id)
        if found is None:
            record = Record(request)
        elif (again := _next_generation(found, request)) is None:
            return found.record.generation
        else:
            record = again
        if node.spool.submit(record):
            emit(log, logging.INFO, "request.submitted", f"submitted {request.operation} {request.op_id}",
                 generation=record.generation, source=request.source)  # fmt: skip
            return record.generation


def wait_for_end(
    node: Node, op_id: str, generation: int, timeout_s: float | None, on_progress: Callable[[Mapping[str, Any]], None]
) -> Found | None:
    """Waits for that generation's end; None when the time is over. Raises NoDaemon after 10 s without one."""
    started = time.monotonic()
    daemon_seen_at = started
    pause_s = POLL_FIRST_S
    while True:
        found = node.spool.find(op_id)
        if found is not None and found.state in ENDS and found.record.generation >= generation:
            return found
        now = time.monotonic()
        if node.daemon_is_there:
            daemon_seen_at = now
        elif now - daemon_seen_at >= NO_DAEMON_WAIT_S:
            raise NoDaemon(
                f"{op_id} is queued and runs as soon as the daemon is back",
                hint="`systemctl status etcd-agent` says why it is not there",
            )
        if timeout_s is not None and now - started >= timeout_s:
            return None
        on_progress(node.spool.read_progress(op_id))
        time.sleep(pause_s)
        pause_s = min(POLL_MOST_S, pause_s * 1.5)


def exit_code_for(record: Record) -> int:
    """The exit code that a result means."""
    result = record.result
    if result is None or result.status == "succeeded":
        return EXIT_OK
    if result.status == "refused":
        return EXIT_REFUSED
    return exit_code_of(result.error.code) if result.error else EXIT_FAILED


def _next_generation(found: Found, request: Request) -> Record | None:
    """The record of a new generation, or None when what is known is to be waited for or returned."""
    known = found.record
    if not known.request.same_work_as(request):
        raise BadInput(
            f"{request.op_id} is known for other work: {known.request.operation} {known.request.params}",
            hint="an op id names one piece of work; leave --op-id out for a fresh one",
        )
    if known.request.trace_id != request.trace_id:
        emit(log, logging.INFO, "trace.adopted", f"{request.op_id} goes on under the trace that came first",
             first_trace_id=known.request.trace_id)  # fmt: skip
    result = known.result
    again = result is not None and (
        result.status == "refused"
        or (result.status == "failed" and result.error is not None and result.error.retryable)
    )
    if found.state not in ENDS or not again:
        return None
    return Record(_restarted(known.request, request), known.generation + 1, results=known.results[-RESULTS_CARRIED:])


def _restarted(first: Request, again: Request) -> Request:
    """The first request's time names the work; the trace is that of who asks again."""
    return Request(
        op_id=again.op_id, operation=again.operation, trace_id=again.trace_id, requested_at=first.requested_at,
        params=again.params, span_id=again.span_id, source=again.source, ssm_command_id=again.ssm_command_id,
    )  # fmt: skip
