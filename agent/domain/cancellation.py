"""Asking that one generation of an operation ends without its result. Pure."""

from typing import Annotated, Literal

import msgspec

from agent.domain.request import Moment, OpId, Record, SpanId, TraceId
from agent.errors import BadInput, Cancelled

MOST_BYTES = 4096


class Cancellation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `ops cancel` leaves for the daemon. The trace is the canceller's own, not the operation's."""

    op_id: OpId
    generation: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    trace_id: TraceId
    asked_at: Moment
    span_id: SpanId = ""
    schema: Literal[1] = 1


def encode(cancellation: Cancellation) -> bytes:
    """The bytes of its file."""
    return msgspec.json.encode(cancellation) + b"\n"


def decode(content: bytes) -> Cancellation:
    """Reads its file. Raises BadInput."""
    try:
        return msgspec.json.decode(content, type=Cancellation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the cancellation is not valid: {error}", hint="use `etcd-agent ops cancel`") from None


def failure(record: Record, cancellation: Cancellation) -> Cancelled:
    """What its result says."""
    op_id = record.request.op_id
    if record.attempt == 0 and record.parking is None:
        when = "before it started"
    else:
        when = "while it waited for the cluster" if record.parking is not None else "while it ran"
    return Cancelled(
        f"{op_id} was cancelled {when}, as asked at {cancellation.asked_at} under trace {cancellation.trace_id}",
        hint="the same op id does not start it again; leave --op-id out for a fresh one",
    )
