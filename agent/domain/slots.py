"""The node's own schedule: whether this node takes the next snapshot now, later, or not at all. Pure.

A slot is the time from one good snapshot to the next. It is due when the newest good one has three quarters of its
greatest age, so that a node that fails leaves the others time. Slots are counted, not dated: no node's clock names one.
All moments are seconds since 1970 by the wall clock of the node that looks, all times are seconds.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from agent.domain.key_txn import one_line
from agent.errors import BadInput

DUE_AT = 0.75  # of the greatest age
LEAST_STEP_S, MOST_STEP_S = 5.0, 300.0
LEAST_TAKEOVER_S = 10.0
MOST_SKEW_S = 300.0  # that the nodes' clocks may differ
RETRY_S = 30.0
MOST_DOUBLINGS = 6
LEAST_WAIT_S = 0.2  # a rounding error must never make a loop of waits of nothing
LOOKS_IN_AGE = 4
MOST_LOOK_S = 300.0
MOST_RECORD_BYTES = 4096

Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Rule = Literal["due", "young", "claimed", "order", "failed", "no-member", "no-voter", "no-leader"]


class SlotRecord(msgspec.Struct, frozen=True):
    """What the slot's key in etcd says: who took the newest slot, and what came of it."""

    slot: Number
    state: Literal["claimed", "done", "failed"]
    node: str
    instance_id: str
    trace_id: str
    op_id: str
    claimed_at_s: Moment
    requested_at_s: Moment = 0.0  # of its snapshot, once there is one
    snapshot_id: str = ""
    stored: bool = False
    missed: Number = 0  # slots that nobody took in time, since the key is there
    schema: int = 1


@dataclass(frozen=True)
class Rhythm:
    """What the configuration says: the greatest age, and how long a snapshot may take."""

    max_age_s: float
    timeout_s: float

    @property
    def due_after_s(self) -> float:
        """The age at which a slot is due."""
        return self.max_age_s * DUE_AT

    @property
    def lead_s(self) -> float:
        """From when a slot is due to when it is missed."""
        return self.max_age_s - self.due_after_s

    @property
    def takeover_s(self) -> float:
        """After which a claim without an end is nobody's."""
        return max(min(self.timeout_s, self.lead_s / 2), LEAST_TAKEOVER_S)

    @property
    def look_s(self) -> float:
        """The longest time without a look."""
        return max(min(MOST_LOOK_S, self.max_age_s / LOOKS_IN_AGE), LEAST_WAIT_S)

    def step_s(self, voters: int) -> float:
        """Between one node's turn and the next one's."""
        return max(min(MOST_STEP_S, self.lead_s / (voters + 1)), LEAST_STEP_S)


@dataclass(frozen=True)
class View:
    """What a node sees. `newest_s` is the moment of the newest good snapshot, None where none is known.

    `own` is 0 where its member does not answer, `leader` 0 where it knows none. `shared`: other nodes' snapshots lie in
    the same store. `failures` and `failed_s` are this node's own, in this slot.
    """

    now_s: float
    newest_s: float | None
    record: SlotRecord | None
    own: int
    voters: tuple[int, ...]
    leader: int
    shared: bool
    op_id: str = ""
    failures: int = 0
    failed_s: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Act now, or look again after `wait_s`; the rule and a sentence say why."""

    act: bool
    wait_s: float
    rule: Rule
    reason: str


def decide(view: View, rhythm: Rhythm) -> Decision:
    """Whether this node takes the snapshot now. With a claim of its own it goes on with it."""
    since_s = _due_since_s(view, rhythm)
    if since_s is not None and since_s < 0:
        return _wait(-since_s, rhythm, "young", f"the newest good snapshot is young enough for {-since_s:.0f} s more")
    if (unable := _unable(view, rhythm)) is not None:
        return unable
    return (
        _claimed(view, rhythm)
        or _failed(view, rhythm)
        or _not_its_turn(view, rhythm, since_s)
        or Decision(True, LEAST_WAIT_S, "due", "a snapshot is due" if since_s is not None else "there is no snapshot")
    )


def missed(view: View, rhythm: Rhythm) -> int:
    """How many slots passed without a good snapshot up to now."""
    return 0 if view.newest_s is None else int(max(0.0, view.now_s - view.newest_s) // rhythm.max_age_s)


def counts(moment_s: float, now_s: float) -> bool:
    """Whether a snapshot of that moment may put the next one off: one of a time to come would do so until then."""
    return moment_s <= now_s + MOST_SKEW_S


def kept_moment_s(record: SlotRecord | None, *, store_is_away: bool) -> float | None:
    """The moment of the snapshot that the slot's key tells of, None where the key proves nothing.

    One that its node keeps until the store takes it is in no listing. One that was stored is, so the listing decides
    where there is one.
    """
    if record is None or record.state != "done" or (record.stored and not store_is_away):
        return None
    return record.requested_at_s


def was_stored_since(record: SlotRecord | None, newest_s: float | None) -> bool:
    """Whether the key, which is read after the listing, tells of a snapshot that the listing did not have."""
    if record is None or record.state != "done" or not record.stored:
        return False
    return newest_s is None or record.requested_at_s > newest_s


def newest_of(*moments_s: float | None, now_s: float) -> float | None:
    """The newest of those that count."""
    return max((one for one in moments_s if one is not None and counts(one, now_s)), default=None)


def op_id(cluster: str, node: str, record: SlotRecord | None, newest_s: float | None) -> str:
    """One for each slot and node, so that who asks again joins. Without a key the newest snapshot names the slot."""
    slot = f"after {newest_s}" if record is None else str(next_slot(record))
    return f"snapshot-{hashlib.sha256('|'.join((cluster, node, slot)).encode()).hexdigest()[:16]}"


def next_slot(record: SlotRecord | None) -> int:
    """The number of the slot that is to be taken: that of a claim without an end is taken over."""
    if record is None:
        return 1
    return record.slot + 1 if record.state == "done" else record.slot


def encode(record: SlotRecord) -> bytes:
    """The key's value: one line of ASCII."""
    return one_line(record)


def decode(content: bytes) -> SlotRecord:
    """Reads the key's value. Raises BadInput; fields of newer versions are ignored."""
    if len(content) > MOST_RECORD_BYTES:  # what is read goes on into logs and results
        raise BadInput(f"the slot's key in etcd has {len(content):,} bytes", hint="who else writes there?")
    try:
        return msgspec.json.decode(content, type=SlotRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the slot's key in etcd can not be read: {error}", hint="who else writes there?") from None


def _due_since_s(view: View, rhythm: Rhythm) -> float | None:
    """Since when the slot is due, negative before that; None where nothing says since when."""
    if view.newest_s is not None:
        return view.now_s - view.newest_s - rhythm.due_after_s
    if view.record is not None and counts(view.record.claimed_at_s, view.now_s):
        return max(0.0, view.now_s - view.record.claimed_at_s)
    return None  # a claim of a time to come would hold all but the first in turn until then


def _unable(view: View, rhythm: Rhythm) -> Decision | None:
    if not view.own:
        return _wait(RETRY_S, rhythm, "no-member", "this node's etcd member does not answer")
    if not view.leader:
        return _wait(RETRY_S, rhythm, "no-leader", "this node's etcd member knows no leader: nothing can be confirmed")
    if view.voters and view.own not in view.voters:
        return _wait(rhythm.look_s, rhythm, "no-voter", "this node's etcd member has no vote")
    return None


def _claimed(view: View, rhythm: Rhythm) -> Decision | None:
    record = view.record
    if not view.shared or record is None or record.state != "claimed" or record.op_id == view.op_id:
        return None
    left_s = rhythm.takeover_s - (view.now_s - record.claimed_at_s)
    if left_s <= 0 or left_s > rhythm.takeover_s + MOST_SKEW_S:  # over, or of a clock that is wrong
        return None
    return _wait(left_s, rhythm, "claimed", f"{record.node} takes it")


def _failed(view: View, rhythm: Rhythm) -> Decision | None:
    """Its own failures put a node off, for longer and longer; others may act meanwhile."""
    if not view.failures:
        return None
    hold_s = min(RETRY_S * 2 ** min(view.failures - 1, MOST_DOUBLINGS), max(rhythm.lead_s, LEAST_TAKEOVER_S))
    left_s = hold_s - (view.now_s - view.failed_s)
    if left_s <= 0 or left_s > hold_s + MOST_SKEW_S:
        return None
    return _wait(left_s, rhythm, "failed", f"it failed here {view.failures} times")


def _not_its_turn(view: View, rhythm: Rhythm, since_s: float | None) -> Decision | None:
    """One after the other in the order of member ids, the leader last. So it is where etcd takes no claims, too."""
    if since_s is None or len(view.voters) < 2:
        return None
    turns = sorted(view.voters, key=lambda voter: (voter == view.leader, voter)).index(view.own)
    left_s = turns * rhythm.step_s(len(view.voters)) - since_s
    return _wait(left_s, rhythm, "order", f"{turns} turns come before its own") if left_s > 0 else None


def _wait(wait_s: float, rhythm: Rhythm, rule: Rule, reason: str) -> Decision:
    return Decision(False, max(LEAST_WAIT_S, min(wait_s, rhythm.look_s)), rule, reason)
