"""Handing a request to the daemon by way of the spool, and waiting for its end."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.adapters.spool import ENDS, Found
from agent.domain import attempts
from agent.domain.request import Record, Request
from agent.errors import AgentError, BadInput, NoDaemon
from agent.logs import emit
from agent.node import Node

NO_DAEMON_WAIT_S = 10.0
POLL_FIRST_S = 0.02
POLL_MOST_S = 0.1
GONE_WAIT_S = 2.0
OnProgress = Callable[[Mapping[str, Any]], None]
log = logging.getLogger(__name__)


def hand_over(node: Node, request: Request) -> int:
    """Puts the request into the spool, or joins what is known under its op id. Returns the generation to wait for."""
    while True:
        found = node.spool.find(request.op_id)
        if found is None:
            record = Record(request)
        elif (again := _next_generation(found, request)) is None:
            emit(log, logging.INFO, "request.joined", f"{request.op_id} is known already: {found.state}",
                 state=found.state)  # fmt: skip
            return found.record.generation
        else:
            record = again
        if node.spool.submit(record):
            emit(log, logging.INFO, "request.submitted", f"submitted {request.operation} {request.op_id}",
                 generation=record.generation, source=request.source)  # fmt: skip
            return record.generation


def wait_for_end(
    node: Node, request: Request, generation: int, timeout_s: float | None, on_progress: OnProgress
) -> Found | None:
    """Waits for that generation's end; None when the time is over.

    Raises NoDaemon after 10 s without one, BadInput when the op id turns out to be other work's.
    """
    op_id = request.op_id
    started = time.monotonic()
    daemon_seen_at = seen_at = started
    pause_s = POLL_FIRST_S
    while True:
        found = _of_this_work(node, request)
        if found is not None and found.state in ENDS and found.record.generation >= generation:
            return found
        now = time.monotonic()
        if found is not None:
            seen_at = now
        elif now - seen_at >= GONE_WAIT_S:
            raise _gone(node, op_id)
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


def _of_this_work(node: Node, request: Request) -> Found | None:
    """Where the work is. What only lies in `incoming/` beside it, with other content, is to be rejected itself."""
    found = node.spool.find(request.op_id)
    if found is not None and found.state == "incoming" and not found.record.request.same_work_as(request):
        found = node.spool.find(request.op_id, beyond_incoming=True)
    if found is not None and not found.record.request.same_work_as(request):
        raise _other_work(found)
    return found


def _other_work(found: Found) -> BadInput:
    known = found.record.request
    return BadInput(
        f"{known.op_id} is known for other work: {known.operation} {known.params}",
        hint="an op id names one piece of work; leave --op-id out for a fresh one",
    )


def _gone(node: Node, op_id: str) -> AgentError:
    """The error for a request that lies in no folder any more, so that nobody waits for it for ever."""
    reason = node.spool.rejections.last(op_id)
    if reason:
        return BadInput(f"the daemon rejected {op_id}: {reason}", hint="is the daemon of this command's version?")
    return AgentError(f"{op_id} is in no folder of {node.spool.folder} any more", hint="ask again")


def _next_generation(found: Found, request: Request) -> Record | None:
    """The record of a new generation, or None when what is known is to be waited for or returned."""
    known = found.record
    if not known.request.same_work_as(request):
        raise _other_work(found)
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
    return attempts.next_generation(known, _restarted(known.request, request))


def _restarted(first: Request, again: Request) -> Request:
    """The first request's time names the work; the trace is that of who asks again."""
    return Request(
        op_id=again.op_id, operation=again.operation, trace_id=again.trace_id, requested_at=first.requested_at,
        params=again.params, span_id=again.span_id, source=again.source, ssm_command_id=again.ssm_command_id,
    )  # fmt: skip
