"""Agents that change a membership by claim, lock, intent and guard, in steps between which anything may happen.

A program is a generator: it may be stopped, for as long as one likes, wherever it yields, and dies when it is dropped.
What an operation will do later is done here the way `op_claim` and `change_lock` mean it.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from agent.domain import change_lock, op_claim
from agent.domain.change_lock import INTENT_KEY, LEASE_S, LOCK_KEY, Found, Intent, Lock
from agent.domain.guard import judge
from agent.domain.guard_ask import Ask, Policy, Verb
from agent.domain.op_claim import Stand, Stored, Watched
from agent.domain.verdict import Plan, Step
from tests.unit.small_etcd import Compare, SmallEtcd

TRACE = "4" * 32
SIZE = 3


@dataclass
class Act:
    """A call to the membership as it reaches etcd, and what was known when its sender decided on it."""

    agent: str
    verb: str
    member_id: int
    viewed_s: float
    checked_s: float


@dataclass
class Agent:
    """One agent that was asked for one operation on one member. Its clock has an offset of its own."""

    name: str
    etcd: SmallEtcd
    op_id: str
    verb: Verb
    member_id: int
    offset_s: float
    before_act: Callable[[Act], None]
    watched: Watched | None = None
    generation: int = 0
    owns: bool = False
    at: str = "start"
    checked_s: float = 0.0
    viewed_s: float = 0.0
    program: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self.program = self.run()

    def step(self) -> None:
        self.at = next(self.program)

    def crash(self) -> None:
        """What it knew is gone; its clock goes on, as its node did not boot."""
        self.watched, self.at, self.program = None, "start", self.run()

    def now_s(self) -> float:
        return self.etcd.now_s + self.offset_s

    def run(self) -> Iterator[str]:
        while True:
            yield from self._claim()
            if not self.owns:
                yield "ended"
                continue
            if not self._allowed():
                yield "parked"
                continue
            yield "allowed"
            lock = yield from self._lock()
            if lock is None:
                yield "no lock"
                continue
            clear = yield from self._finish_what_is_there(lock)
            if clear:
                yield from self._change(lock)
            self.etcd.revoke(lock.lease_id)
            yield "unlocked"

    def _claim(self) -> Iterator[str]:
        while True:
            found = self._stored()
            if found is not None:
                self.watched = op_claim.watch(self.watched, found.mod_revision, now_s=self.now_s(), boot_id="b")
            decided = op_claim.decide(self.op_id, self.name, TRACE, found, self.watched, now_s=self.now_s())
            yield "claim decided"
            if isinstance(decided, Stand):
                if decided.why == "it has ended":
                    self.owns = False
                    return
            elif self._put_claim(decided):
                self.owns, self.generation = True, decided.claim.generation
                return

    def _put_claim(self, write: op_claim.Write) -> bool:
        key = op_claim.key(self.op_id)
        return self.etcd.txn([("mod", key, write.if_mod_revision)], [(key, op_claim.encode(write.claim), 0)])

    def _stored(self) -> Stored | None:
        entry = self.etcd.get(op_claim.key(self.op_id))
        return None if entry is None else Stored(op_claim.decode(entry.value), entry.mod_revision)

    def _allowed(self) -> bool:
        self.viewed_s = self.etcd.now_s
        verdict = judge(self.etcd.view(), Ask(self.verb, self.member_id), Policy(SIZE))
        return isinstance(verdict, Plan)

    def _lock(self) -> Generator[str, None, Lock | None]:
        sent_s = self.now_s()
        lease_id = self.etcd.grant(LEASE_S)
        yield "granted"
        if not self.etcd.txn([("create", LOCK_KEY, 0)], [(LOCK_KEY, self.name.encode(), lease_id)]):
            self.etcd.revoke(lease_id)
            return None
        entry = self.etcd.get(LOCK_KEY)
        assert entry is not None
        yield "locked"
        return Lock(entry.create_revision, lease_id, sent_s)

    def _kept(self, lock: Lock) -> Lock | None:
        sent_s = self.now_s()
        return (
            Lock(lock.create_revision, lock.lease_id, sent_s) if self.etcd.keep_alive(lock.lease_id, LEASE_S) else None
        )

    def _finish_what_is_there(self, lock: Lock) -> Generator[str, None, bool]:
        """Ends with whether the way is clear for a change of its own."""
        found: Found | None = None
        while True:
            kept = self._kept(lock)
            yield "kept"
            entry = self.etcd.get(INTENT_KEY)
            if entry is None or kept is None:
                return kept is not None
            lock = kept
            if found is None or found.mod_revision != entry.mod_revision:
                found = Found(change_lock.decode(entry.value), entry.mod_revision, self.now_s())
            intent = found.intent
            self.viewed_s = self.etcd.now_s
            view = self.etcd.view()
            verdict = judge(view, Ask(_verb(intent), int(intent.member_id, 16), by=intent.by), Policy(SIZE))
            todo = change_lock.finish(found, self.etcd.members(), verdict, now_s=self.now_s())
            yield f"found: {todo}"
            if todo == "act":
                yield from self._act(lock, intent)
            elif todo in ("clear", "withdraw"):
                self._remove_intent(lock, found.mod_revision)
                yield "intent removed"

    def _change(self, lock: Lock) -> Iterator[str]:
        if not self._allowed():
            return
        step = Step("remove" if self.verb == "remove" else "promote", self.member_id, "")
        members = self.etcd.members()
        intent = change_lock.intent_of(step, members, "operator", op_id=self.op_id, executor=self.name, trace_id=TRACE)
        yield "guarded"
        compares: list[Compare] = [("create", LOCK_KEY, lock.create_revision), ("mod", INTENT_KEY, 0)]
        if not self.etcd.txn(compares, [(INTENT_KEY, change_lock.encode(intent), 0)]):
            return
        entry = self.etcd.get(INTENT_KEY)
        assert entry is not None
        written = entry.mod_revision
        yield "intended"
        kept = self._kept(lock)
        if kept is None or not change_lock.is_current(intent, self.etcd.members()):
            return
        yield from self._act(kept, intent)
        yield "acted"
        if change_lock.is_done(intent, self.etcd.members()) and self._remove_intent(lock, written):
            yield "confirmed"
            found = self._stored()
            if op_claim.is_own(found, self.name, self.generation) and found is not None:
                self._put_claim(op_claim.renewed(found, "succeeded"))

    def _act(self, lock: Lock, intent: Intent) -> Iterator[str]:
        """The check just before, and the call, which nothing fences: between the two lies the window that remains."""
        found, entry = self._stored(), self.etcd.get(LOCK_KEY)
        seen = None if entry is None else entry.create_revision
        if not op_claim.is_own(found, self.name, self.generation):
            return
        if not change_lock.may_act(lock, seen, now_s=self.now_s()):
            return
        self.checked_s = self.etcd.now_s
        yield "act"
        self._call(intent.verb, int(intent.member_id, 16))

    def _call(self, verb: str, member_id: int) -> None:
        etcd = self.etcd
        if member_id not in (etcd.voters | etcd.learners if verb == "remove" else etcd.learners):
            return  # "member not found", "can only promote a learner": it is so already
        self.before_act(Act(self.name, verb, member_id, self.viewed_s, self.checked_s))
        if verb == "remove":
            etcd.voters.discard(member_id)
            etcd.learners.discard(member_id)
            etcd.failed_at.pop(member_id, None)
        else:
            etcd.learners.discard(member_id)
            etcd.voters.add(member_id)

    def _remove_intent(self, lock: Lock, mod_revision: int) -> bool:
        compares: list[Compare] = [("create", LOCK_KEY, lock.create_revision), ("mod", INTENT_KEY, mod_revision)]
        return self.etcd.txn(compares, deletes=[INTENT_KEY])


def _verb(intent: Intent) -> Verb:
    return "add" if intent.verb == "add-learner" else intent.verb
