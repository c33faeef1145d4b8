"""The claim of a cluster-wide operation: one executor at a time does it, and another one goes on when that is lost.

It lies under `ops/<op_id>` and changes by compare-and-swap on its mod revision alone. The executor renews it every
30 s. It is stale when an observer saw the same mod revision for 90 s of its own boot clock: no two clocks are compared.
Who takes it over counts the generation up, and then the former executor finds that it is not its own any more.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from agent.domain.key_txn import one_line
from agent.domain.request import OpId, TraceId
from agent.errors import BadInput

PREFIX = "/etcd-agent/v1/ops/"
RENEW_S = 30.0
STALE_S = 90.0
State = Literal["running", "parked", "succeeded", "failed", "refused"]
OPEN: frozenset[State] = frozenset({"running", "parked"})


class OpClaim(msgspec.Struct, frozen=True):
    """Who does the operation, how far it is, and the how-manieth executor that is."""

    op_id: OpId
    executor: str
    state: State
    generation: Annotated[int, msgspec.Meta(ge=1)]
    trace_id: TraceId
    renewals: int = 0
    schema: Literal[1] = 1

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


@dataclass(frozen=True)
class Stored:
    """A claim as it lies in etcd."""

    claim: OpClaim
    mod_revision: int


@dataclass(frozen=True)
class Watched:
    """A mod revision, and since when this observer sees it, by its boot clock."""

    mod_revision: int
    since_s: float
    boot_id: str


@dataclass(frozen=True)
class Write:
    """Put this, if the key's mod revision is still that; 0 if there must be no such key."""

    claim: OpClaim
    if_mod_revision: int
    why: Literal["new", "renewed", "taken over", "asked again"]


@dataclass(frozen=True)
class Stand:
    """Do not act on it: another one does, or it has ended."""

    claim: OpClaim
    why: Literal["another executor has it", "it has ended"]


def watch(before: Watched | None, mod_revision: int, *, now_s: float, boot_id: str) -> Watched:
    """What an observer knows after it read a claim once more."""
    if (
        before is not None
        and (before.mod_revision, before.boot_id) == (mod_revision, boot_id)
        and before.since_s <= now_s
    ):
        return before
    return Watched(mod_revision, now_s, boot_id)


def is_stale(watched: Watched, *, now_s: float) -> bool:
    """Whether its executor has not renewed it for too long."""
    return now_s - watched.since_s >= STALE_S


def decide(
    op_id: str,
    executor: str,
    trace_id: str,
    found: Stored | None,
    watched: Watched | None,
    *,
    now_s: float,
    again: bool = False,
) -> Write | Stand:
    """What one who was asked for an operation does about its claim: writes it, or leaves it to another.

    The executor is an instance: a second process of it is only started when the first is surely gone. `again`: somebody
    asked for it once more since it ended, and that begins what failed or was refused anew.
    """
    if found is None:
        return Write(OpClaim(op_id, executor, "running", 1, trace_id), 0, "new")
    claim = found.claim
    if not claim.is_open:
        if again and claim.state != "succeeded":
            return Write(_next_generation(claim, executor), found.mod_revision, "asked again")
        return Stand(claim, "it has ended")
    if claim.executor == executor:
        return renewed(found)
    if watched is None or watched.mod_revision != found.mod_revision or not is_stale(watched, now_s=now_s):
        return Stand(claim, "another executor has it")
    return Write(_next_generation(claim, executor), found.mod_revision, "taken over")


def renewed(found: Stored, state: State | None = None) -> Write:
    """The executor's own claim once more, perhaps in another state."""
    claim = found.claim
    again = msgspec.structs.replace(claim, state=state or claim.state, renewals=claim.renewals + 1)
    return Write(again, found.mod_revision, "renewed")


def _next_generation(claim: OpClaim, executor: str) -> OpClaim:
    return msgspec.structs.replace(
        claim, executor=executor, generation=claim.generation + 1, renewals=0, state="running"
    )


def is_own(found: Stored | None, executor: str, generation: int) -> bool:
    """Whether an act is still this executor's to do: asked of a fresh read, just before each act."""
    return (
        found is not None
        and found.claim.is_open
        and (found.claim.executor, found.claim.generation) == (executor, generation)
    )


def key(op_id: str) -> str:
    """The key of an operation's claim."""
    return PREFIX + op_id


def encode(claim: OpClaim) -> bytes:
    """The value of its key."""
    return one_line(claim)


def decode(value: bytes) -> OpClaim:
    """Reads a claim. Raises BadInput: one that can not be read belongs to somebody and is not taken over."""
    try:
        return msgspec.json.decode(value, type=OpClaim)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = "agents of several versions? bring all nodes to one; else look at the key by etcdctl"
        raise BadInput(f"a claim below {PREFIX} can not be read: {error}", hint=hint) from None
