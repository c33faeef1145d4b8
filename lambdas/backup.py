"""The handler of the backup schedule: asks one node for a snapshot."""

import re

from agent import trace
from lambdas.dispatch import ask_one_node
from lambdas.invocation import Trigger, invocation

SERVICE = "etcd-agent-lambda-backup"
OPERATION = "snapshot"

# Of what an EventBridge rule with a schedule sends: what is used, and what tells it from other events.
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
    """Returns the ids of trace, operation, instance and command; raises DispatchFailed when no node was asked.

    Raising is what makes Lambda try again, fills the dead-letter queue and rings the alarm: what an
    asynchronous invocation returns is thrown away.
    """
    trigger = read_schedule(event)
    with invocation(SERVICE, OPERATION, trigger, context):
        return ask_one_node(requested_at=trigger.event_time)


def read_schedule(event: object) -> Trigger:
    """The trigger in a schedule event, or one that names all problems, under a fresh trace id."""
    fields = event if isinstance(event, dict) else {}
    problems = [problem for name in _FIELDS if (problem := _problem_of(name, fields.get(name)))]
    if not isinstance(event, dict):
        problems = [f"it is of type {type(event).__name__}, not an object"]
    if not problems:
        event_id, event_time = fields["id"], fields["time"]
        try:
            trace_id = trace.trace_id_from_event(event_id, event_time)
        except ValueError:
            problems = [f"time is {event_time}, which does not exist"]
        else:
            return Trigger(trace_id, trace.op_id_from_event(OPERATION, event_id), event_id, event_time)
    return Trigger(trace.new_trace_id(), problems=tuple(problems))


def _problem_of(name: str, value: object) -> str:
    pattern, expected = _FIELDS[name]
    if value is None:
        return f"{name} is missing"
    if not isinstance(value, str):
        return f"{name} is of type {type(value).__name__}, not {expected}"
    if not pattern.fullmatch(value):
        return f"{name} is {trace.printable_excerpt(value)!r}, not {expected}"
    return ""
