"""The lock that one membership change at a time holds, and the intent that is written ahead of its act.

`change/lock` hangs on a lease of 30 s, kept alive by short calls between the steps. `change/intent` does not: it says
what a holder that died, or is frozen, was about to do. Everything that is written under the lock compares its create
revision, so that a former holder writes nothing any more; only the act itself, which takes no condition, is not fenced.
That is why an intent is withdrawn no sooner than a minute after it was found.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from agent.domain.cluster import Member, hex_id
from agent.domain.guard_ask import By
from agent.domain.key_txn import one_line
from agent.domain.membership import list_digest
from agent.domain.request import OpId, TraceId
from agent.domain.verdict import JOINER, Refusal, Step, Verdict
from agent.errors import BadInput

LOCK_KEY = "/etcd-agent/v1/change/lock"
INTENT_KEY = "/etcd-agent/v1/change/intent"
LEASE_S = 30
# An act begins only while the lease surely lasts for as long as its call may take.
ACT_S = 10.0
WITHDRAW_S = 60.0


@dataclass(frozen=True)
class Lock:
    """The lock as its holder knows it. `alive_s`: when, by its boot clock, it *sent* what last renewed the lease."""

    create_revision: int
    lease_id: int
    alive_s: float


class Intent(msgspec.Struct, frozen=True):
    """The one change in flight: which act on which member, and what the list was before. Ids are hex."""

    op_id: OpId
    executor: str
    verb: Literal["remove", "add-learner", "promote"]
    member_id: str
    peer_urls: tuple[str, ...]
    list_digest: str
    by: By
    trace_id: TraceId
    schema: Literal[1] = 1


@dataclass(frozen=True)
class Found:
    """Another one's intent, and since when this observer holds the lock and sees it, by its boot clock."""

    intent: Intent
    mod_revision: int
    since_s: float


Next = Literal["clear", "act", "wait", "withdraw"]


def may_act(lock: Lock, seen_create_revision: int | None, *, now_s: float) -> bool:
    """Whether the holder may begin an act: it still has the lock by a fresh read, and for long enough by its clock."""
    return seen_create_revision == lock.create_revision and now_s + ACT_S <= lock.alive_s + LEASE_S


def intent_of(step: Step, members: tuple[Member, ...], by: By, *, op_id: str, executor: str, trace_id: str) -> Intent:
    """What is written before a step that changes the list."""
    if step.act not in ("remove", "add-learner", "promote"):
        raise ValueError(f"{step.act} changes no list")
    member_id = "" if step.member_id == JOINER else hex_id(step.member_id)
    return Intent(op_id, executor, step.act, member_id, step.peer_urls, list_digest(members), by, trace_id)


def is_done(intent: Intent, members: tuple[Member, ...]) -> bool:
    """Whether the list shows what was intended."""
    if intent.verb == "add-learner":
        return any(set(one.peer_urls) & set(intent.peer_urls) for one in members)
    found = next((one for one in members if hex_id(one.member_id) == intent.member_id), None)
    return found is None if intent.verb == "remove" else found is not None and not found.is_learner


def is_current(intent: Intent, members: tuple[Member, ...]) -> bool:
    """Whether the list is still what it was when the intent was written; else the guard is asked anew."""
    return intent.list_digest == list_digest(members)


def finish(found: Found, members: tuple[Member, ...], verdict: Verdict, *, now_s: float) -> Next:
    """What the lock's holder does about an intent that it found, by a fresh list and the guard's verdict on it.

    `clear`: it is done, remove the intent. `act`: do it. `wait`: nothing now, and nothing else is planned meanwhile.
    `withdraw`: remove the intent undone.
    """
    if is_done(found.intent, members):
        return "clear"
    if not isinstance(verdict, Refusal):
        return "act"
    return "withdraw" if now_s - found.since_s >= WITHDRAW_S else "wait"


def encode(intent: Intent) -> bytes:
    """The value of its key."""
    return one_line(intent)


def decode(value: bytes) -> Intent:
    """Reads an intent. Raises BadInput: while one is there that nobody can read, nothing is planned."""
    try:
        return msgspec.json.decode(value, type=Intent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = f"look at it by `etcdctl get {INTENT_KEY}`, compare the member list, and remove the key by hand"
        raise BadInput(f"the intent of a membership change can not be read: {error}", hint=hint) from None
