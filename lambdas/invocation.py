"""One invocation of a handler: what it was asked for, the trace around it, and how it ended, in the log."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from agent import __version__, logs, trace
from agent.logs import emit
from lambdas.dispatch import BadEvent, DispatchFailed

_X_RAY_ROOT = re.compile(r"(?:\A|;)Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;|\Z)")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trigger:
    """What an event asks for. One with problems is refused; its trace id is fresh, so that the refusal has one."""

    trace_id: str
    op_id: str = ""
    event_id: str = ""
    event_time: str = ""
    problems: tuple[str, ...] = ()


@contextlib.contextmanager
def invocation(service: str, operation: str, trigger: Trigger, context: object) -> Iterator[None]:
    """Binds the trace and a root span for the block, and logs how it began and ended.

    Raises BadEvent before the block when the trigger has problems; what the block raises passes through.
    """
    started = time.monotonic()
    _configure_logs(service, context)
    with trace.bound(trace_id=trigger.trace_id, op_id=trigger.op_id, operation=operation), trace.span():
        asker = f"event {trigger.event_id}" if trigger.event_id else "an event"
        emit(log, logging.INFO, "lambda.started", f"{asker} asks for {operation}")
        try:
            _require_valid(trigger)
            yield
        except DispatchFailed as error:
            emit(log, logging.ERROR, "lambda.failed", f"nobody was asked: {error.message}", error_code=error.code,
                 error_message=error.message, error_hint=error.hint, duration_ms=_since(started))  # fmt: skip
            raise
        except Exception as error:
            emit(log, logging.ERROR, "lambda.failed", f"unexpected error: {error}", error_code="internal_error",
                 error_message=f"{type(error).__name__}: {error}", duration_ms=_since(started))  # fmt: skip
            raise  # Lambda itself reports the traceback
        emit(log, logging.INFO, "lambda.finished", "one node was asked", duration_ms=_since(started))


def _require_valid(trigger: Trigger) -> None:
    if trigger.problems:
        raise BadEvent(
            f"the event is not valid: {'; '.join(trigger.problems)}",
            hint="what sends it? only the function's own EventBridge rule may invoke it",
        )


def _configure_logs(service: str, context: object) -> None:
    fields = {
        "cluster": trace.printable_excerpt(os.environ.get("CLUSTER", "")),
        "lambda_request_id": str(getattr(context, "aws_request_id", "")),
    }
    # Another one for every try of Lambda: so it is logged beside the trace, and never used as its id.
    if match := _X_RAY_ROOT.search(os.environ.get("_X_AMZN_TRACE_ID", "")):
        fields["xray_trace_id"] = match[1]
    logs.configure(service=service, version=__version__, fields=fields)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
