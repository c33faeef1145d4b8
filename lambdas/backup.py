"""The handler of the backup schedule: asks one node for a snapshot."""

import re

from agent import trace
from lambdas import dispatch
from lambdas.dispatch import Trigger

SERVICE = "etcd-agent-lambda-backup"
OPERATION = "snapshot"

# Of what an EventBridge rule with a schedule sends, all that is used or that tells it from other events.
_FIELDS = {
    "source": (re.compile(r"aws\.events"), "aws.events"),
    "detail-type": (re.compile(r"Scheduled Event"), "Scheduled Event"),
    "id": (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "a UUID"),
    "time": (
        # Seconds since 1970 become the first 8 hex digits of the trace id, so the years are bounded.
        re.compile(r"(19[7-9]|20[0-9])[0-9]-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"),
        "a time such as 2026-01-31T12:00:00Z",
    ),
}


def handler(event: object, context: object) -> dict[str, str]:
    """Returns the ids of trace, operation, node and command; raises DispatchFailed when no node was asked.

    Raising is what makes Lambda try again, the dead-letter queue fill and the alarm on errors work: answers
    of asynchronous invocations are thrown away.
    """
    trigger = read_schedule(event)
    with dispatch.invocation(SERVICE, OPERATION, trigger, context):
        return dispatch.ask_one_node(OPERATION, trigger)


def read_schedule(event: object) -> Trigger:
    """The trigger in a schedule event, or one that lists all problems under a fresh trace id."""
    problems = _problems_of(event)
    if not problems and isinstance(event, dict):
        try:
            trace_id = trace.trace_id_from_event(event["id"], event["time"])
        except ValueError:
            problems = [f"time is {event['time']}, which does not exist"]
        else:
            return Trigger(trace_id, trace.op_id_from_event(OPERATION, event["id"]), event["time"])
    return Trigger(trace.new_trace_id(), problems=tuple(problems))


def _problems_of(event: object) -> list[str]:
    if not isinstance(event, dict):
        return [f"it is of type {type(event).__name__}, not an object"]
    problems = []
    for name, (pattern, expected) in _FIELDS.items():
        value = event.get(name)
        if value is None:
            problems.append(f"{name} is missing")
        elif not isinstance(value, str):
            problems.append(f"{name} is of type {type(value).__name__}, not {expected}")
        elif not pattern.fullmatch(value):
            problems.append(f"{name} is {trace.printable_excerpt(value)!r}, not {expected}")
    return problems
