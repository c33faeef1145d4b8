"""How many voters the cluster is meant to have, and whether it is paused: the keys `policy` and `pause`.

The size is raised by what is seen, so that nobody has to configure it, and lowered by an operator alone. A vanished
member so counts as an absence, however it went.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from agent.domain.key_txn import one_line
from agent.domain.request import Moment, TraceId, parse_moment
from agent.errors import BadInput

POLICY_KEY = "/etcd-agent/v1/policy"
PAUSE_KEY = "/etcd-agent/v1/pause"
STOOD_S = 600.0
MOST_GAP_S = 120.0  # between two looks; what was in a longer one, nobody knows
MOST_SIZE = 9
_T = TypeVar("_T")


class SizeRecord(msgspec.Struct, frozen=True):
    """The key `policy`. `shrinking`: an operator lowered it, and more voters than that were listed ever since."""

    size: Annotated[int, msgspec.Meta(ge=1)]
    shrinking: bool
    set_by: Literal["operator", "observed"]
    trace_id: TraceId
    schema: Literal[1] = 1


class Pause(msgspec.Struct, frozen=True):
    """The key `pause`, with the moment (UTC) from which on it does not count any more."""

    reason: str
    expires_at: Moment
    trace_id: TraceId
    schema: Literal[1] = 1


@dataclass(frozen=True)
class Standing:
    """How long what was seen of the voters has stood, by the boot clock of one observer.

    `since_s[n - 1]` is since when at least n voters were healthy; `whole_since_s` since when exactly `voters` were
    listed and all of them healthy, None where they are not.
    """

    boot_id: str
    at_s: float
    since_s: tuple[float, ...]
    voters: int
    whole_since_s: float | None


def observe(before: Standing | None, *, healthy: int, voters: int, now_s: float, boot_id: str) -> Standing:
    """What stands after one more look. A look without a common leader has no healthy voter."""
    linked = before is not None and before.boot_id == boot_id and 0 <= now_s - before.at_s <= MOST_GAP_S
    old = before if linked else None
    since = tuple(old.since_s[n] if old is not None and n < len(old.since_s) else now_s for n in range(healthy))
    if healthy != voters:
        return Standing(boot_id, now_s, since, voters, None)
    stays = old is not None and old.voters == voters and old.whole_since_s is not None
    return Standing(boot_id, now_s, since, voters, old.whole_since_s if old is not None and stays else now_s)


def next_record(record: SizeRecord | None, standing: Standing, trace_id: str) -> SizeRecord | None:
    """The record to write now in place of the one that is there; None where it stays.

    A first size is taken only of a cluster that is whole and odd: of three voters with one down, or of two that are
    left of three, the healthy ones alone would tell a size at which the next one may go as well.
    """
    if record is None:
        whole_s = 0.0 if standing.whole_since_s is None else standing.at_s - standing.whole_since_s
        stood = standing.whole_since_s is not None and whole_s >= STOOD_S and standing.voters % 2 == 1
        return SizeRecord(standing.voters, shrinking=False, set_by="observed", trace_id=trace_id) if stood else None
    if record.shrinking:
        ended = standing.voters <= record.size
        return msgspec.structs.replace(record, shrinking=False) if ended else None
    stood_for = [n for n, since_s in enumerate(standing.since_s, 1) if n % 2 and standing.at_s - since_s >= STOOD_S]
    highest = max(stood_for, default=0)
    if highest <= record.size:
        return None
    return SizeRecord(highest, shrinking=False, set_by="observed", trace_id=trace_id)


def resized(size: int, voters: int, trace_id: str) -> SizeRecord:
    """What `member resize N` writes while so many voters are listed. Raises BadInput.

    While the cluster shrinks to it, the size is not raised again by the voters that have yet to go.
    """
    if not 1 <= size <= MOST_SIZE or size % 2 == 0:
        hint = "an even number of voters survives no more failures than one less"
        raise BadInput(f"the size must be an odd number from 1 to {MOST_SIZE}, not {size}", hint=hint)
    return SizeRecord(size, shrinking=voters > size, set_by="operator", trace_id=trace_id)


def paused(pause: Pause | None, now: datetime) -> str:
    """Why automatic changes are paused at a moment; empty where they are not."""
    return "" if pause is None or now >= parse_moment(pause.expires_at) else pause.reason or "no reason was given"


def decode_size(value: bytes | None) -> SizeRecord | None:
    """Reads `policy`; None of none and of what can not be read, and then nothing is changed (G7)."""
    return _decode(value, SizeRecord)


def decode_pause(value: bytes | None) -> Pause | None:
    """Reads `pause`. What is there and can not be read pauses too, for ever."""
    if value is None:
        return None
    pause = _decode(value, Pause)
    try:
        if pause is not None:
            parse_moment(pause.expires_at)
            return pause
    except BadInput:
        pass
    return Pause("the key `pause` can not be read", "9999-12-31T23:59:59Z", "f" * 32)


def encode(record: SizeRecord | Pause) -> bytes:
    """The value of a key."""
    return one_line(record)


def _decode(value: bytes | None, kind: type[_T]) -> _T | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
