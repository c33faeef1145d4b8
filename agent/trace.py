"""Trace ids and the context that carries them. Standard library only: the Lambdas ship this file.

One `ContextVar` per name, so a copied context can never see another one's later changes. Threads do not
inherit the context: run them by `contextvars.copy_context().run`, or bind inside them.
"""

import contextlib
import contextvars
import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

CONTEXT_NAMES = ("trace_id", "span_id", "parent_span_id", "op_id", "operation", "step", "ssm_command_id")
REJECTED_TEXT_LENGTH = 64

_VARIABLES: dict[str, contextvars.ContextVar[str]] = {
    name: contextvars.ContextVar(name, default="") for name in CONTEXT_NAMES
}
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_HEX_16 = re.compile(r"[0-9a-f]{16}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_X_RAY_ROOT = re.compile(r"(?:root=)?1-([0-9a-f]{8})-([0-9a-f]{24})(?:;.*)?")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass(frozen=True)
class Inherited:
    """What a caller handed over: the trace, and the span to hang under ("" when it named none)."""

    trace_id: str
    parent_span_id: str = ""


def new_trace_id(now_s: float | None = None) -> str:
    """A fresh id: the time in its first 8 hex digits (so ids sort by time), random after that."""
    return f"{int(time.time() if now_s is None else now_s):08x}{secrets.token_hex(12)}"


def new_span_id() -> str:
    """16 random hex digits, as W3C Trace Context wants a span id."""
    return secrets.token_hex(8)


def trace_id_from_event(event_id: str, event_time: str) -> str:
    """The one id of an event, however often and late it is delivered.

    `event_time` is RFC 3339, as EventBridge writes it. Raises ValueError when it is not.
    """
    epoch_s = int(datetime.fromisoformat(event_time).timestamp())
    return f"{epoch_s:08x}{_digest(event_id)[:24]}"


def op_id_from_event(operation: str, event_id: str) -> str:
    """The idempotency key of the operation that an event asks for."""
    return f"{operation}-{_digest(event_id)[:16]}"


def op_id_for_retire(instance_id: str) -> str:
    """One key whatever the trigger: an instance dies once."""
    return f"retire-{_digest('retire|' + instance_id)[:16]}"


def parse_inherited(text: str) -> Inherited | None:
    """Reads an id in any accepted form: 32 or 16 hex digits, UUID, X-Ray root, traceparent.

    Returns None for anything else; the caller then makes a fresh id and logs `trace.rejected`.
    """
    lowered = text.strip().lower()
    if _HEX_32.fullmatch(lowered):
        return _unless_zero(lowered)
    if _HEX_16.fullmatch(lowered):
        return _unless_zero(lowered.rjust(32, "0"))
    if _UUID.fullmatch(lowered):
        return _unless_zero(lowered.replace("-", ""))
    if match := _X_RAY_ROOT.fullmatch(lowered):
        return _unless_zero(match[1] + match[2])
    if match := _TRACEPARENT.fullmatch(lowered):
        return _unless_zero(match[1], match[2])
    return None


def printable_excerpt(text: str) -> str:
    """The first 64 printable characters, for the line that says what was rejected."""
    return "".join(character for character in text if character.isprintable())[:REJECTED_TEXT_LENGTH]


def current() -> dict[str, str]:
    """The bound names and their values, without the empty ones."""
    return {name: value for name, variable in _VARIABLES.items() if (value := variable.get())}


def current_trace_id() -> str:
    """The bound trace id, or ""."""
    return _VARIABLES["trace_id"].get()


@contextlib.contextmanager
def bound(**values: str) -> Iterator[None]:
    """Binds names of the context for the block and restores exactly those afterwards."""
    tokens = [(_VARIABLES[name], _VARIABLES[name].set(value)) for name, value in values.items()]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


@contextlib.contextmanager
def span(**values: str) -> Iterator[str]:
    """A new span below the current one, with further names bound; yields its id."""
    span_id = new_span_id()
    parent = _VARIABLES["span_id"].get() or _VARIABLES["parent_span_id"].get()
    with bound(span_id=span_id, parent_span_id=parent, **values):
        yield span_id


def child_environment() -> Mapping[str, str]:
    """What every child process gets, so that its own logs and calls can carry the trace on."""
    context = current()
    if "trace_id" not in context:
        return {}
    parent = context.get("span_id", "") or new_span_id()
    environment = {"TRACE_ID": context["trace_id"], "TRACEPARENT": f"00-{context['trace_id']}-{parent}-01"}
    if "op_id" in context:
        environment["ETCD_AGENT_OP_ID"] = context["op_id"]
    return environment


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unless_zero(trace_id: str, parent_span_id: str = "") -> Inherited | None:
    if int(trace_id, 16) == 0:
        return None
    return Inherited(trace_id, "" if set(parent_span_id) <= {"0"} else parent_span_id)
