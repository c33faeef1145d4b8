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

_X_RAY_ROOT = re.compile(r"(?:\A|;)Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;|\Z)")
log = logging.getLogger(__name__)


class DispatchFailed(Exception):
    """No node was asked. Lambda's own report and the dead-letter queue hold only the text: the trace is in it."""

    code = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} (trace={trace.current_trace_id()})")
        self.message = message
        self.hint = hint


class BadEvent(DispatchFailed):
    """The event is none that this handler is for."""

    code = "bad_input"


class BadSettings(DispatchFailed):
    """The function's environment is incomplete or wrong."""

    code = "config_invalid"


class NoEligibleNode(DispatchFailed):
    """No instance is in service and reachable by SSM."""

    code = "no_eligible_node"


class AwsRefused(DispatchFailed):
    """AWS said no."""

    code = "aws_refused"


class AwsUnavailable(DispatchFailed):
    """AWS did not answer, or is overloaded."""

    code = "aws_unavailable"


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
        emit(log, logging.INFO, "lambda.started", f"an event asks for {operation}",
             event_id=trigger.event_id, event_time=trigger.event_time)  # fmt: skip
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
        "request_id": str(getattr(context, "aws_request_id", "")),
    }
    # Another one for every try of Lambda: so it is logged beside the trace, and never used as its id.
    if match := _X_RAY_ROOT.search(os.environ.get("_X_AMZN_TRACE_ID", "")):
        fields["xray_root"] = match[1]
    logs.configure(service=service, version=__version__, fields=fields)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
