"""Several agents that change one membership at once, with crashes, frozen holders and members that fail.

No interleaving may make a change that is not announced, lose the quorum by a change, or make a second absence.
"""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.domain import change_lock, op_claim
from agent.domain.change_lock import ACT_S, INTENT_KEY, LEASE_S, LOCK_KEY, WITHDRAW_S
from agent.domain.guard import judge
from agent.domain.guard_ask import Ask, Policy
from agent.domain.membership import quorum
from tests.unit.change_agents import SIZE, Act, Agent
from tests.unit.small_etcd import SmallEtcd

# How long a holder may be frozen between its last check and its call without any harm.
FROZEN_S = ACT_S + WITHDRAW_S - 1
MOST_STEPS = 400


class Changes(RuleBasedStateMachine):
    """Three or four voters and a learner; two agents that were asked to remove one, one another, one to promote."""

    lost: Agent | None = None

    @initialize(voters=st.sampled_from([3, 4]), offsets=st.tuples(*[st.sampled_from([0.0, 1000.0, 77.5])] * 4))
    def begin(self, voters: int, offsets: tuple[float, ...]) -> None:
        self.etcd = SmallEtcd(set(range(1, voters + 1)), {9})
        asked = [("first", "remove", 2), ("first", "remove", 2), ("second", "remove", 3), ("third", "promote", 9)]
        self.agents = [
            Agent(f"i-{number}", self.etcd, f"operation-{op}", verb, member, offset, self.check)  # type: ignore[arg-type]
            for number, ((op, verb, member), offset) in enumerate(zip(asked, offsets, strict=True))
        ]

    def run(self, agent: Agent) -> None:
        if agent is not self.lost:
            agent.step()

    def check(self, act: Act) -> None:
        """Called as a change reaches etcd."""
        etcd = self.etcd
        entry = etcd.get(INTENT_KEY)
        assert entry is not None, f"{act} is not announced"
        intent = change_lock.decode(entry.value)
        assert (intent.verb, int(intent.member_id, 16)) == (act.verb, act.member_id), f"{act} is not what is announced"
        later = {one for one, failed_s in etcd.failed_at.items() if failed_s >= act.viewed_s}  # no look could show it
        healthy = etcd.healthy | (later & etcd.voters)
        if act.verb == "remove":
            failed_s = etcd.failed_at.get(act.member_id, act.viewed_s)
            after, left = etcd.voters - {act.member_id}, healthy - {act.member_id}
            assert act.viewed_s - failed_s >= 60 or SIZE - len(left) <= 1, f"{act} is a second absence"
        else:
            after, left = etcd.voters | {act.member_id}, healthy | {act.member_id}
        assert len(left) >= quorum(len(after)), f"{act} loses the quorum"

    @rule(number=st.integers(0, 3), steps=st.integers(1, 25))
    def work(self, number: int, steps: int) -> None:
        for _ in range(steps):
            self.run(self.agents[number])

    @rule(number=st.integers(0, 3), place=st.sampled_from(["guarded", "intended", "act", "acted", "found: wait"]))
    def work_up_to(self, number: int, place: str) -> None:
        """To where it matters most to be stopped, if it comes there."""
        for _ in range(30):
            self.run(self.agents[number])
            if self.agents[number].at == place:
                return

    @rule(seconds=st.sampled_from([1, 5, 12, 31, 61, 91]))
    def freeze(self, seconds: int) -> None:
        """Time for all. Who would wake between check and call later than it may is taken for dead instead."""
        self.etcd.advance(seconds)
        for agent in self.agents:
            if agent.at == "act" and self.etcd.now_s - agent.checked_s > FROZEN_S:
                agent.crash()

    @rule(number=st.integers(0, 3))
    def crash(self, number: int) -> None:
        self.agents[number].crash()

    @precondition(lambda self: self.lost is None and any(one.owns for one in self.agents[:2]))
    @rule()
    def owner_is_lost(self) -> None:
        """One of the two that were asked for the same never works again, wherever it was."""
        self.lost = next(one for one in self.agents[:2] if one.owns)

    @precondition(lambda self: len(self.etcd.healthy) > quorum(len(self.etcd.voters)))
    @rule(data=st.data())
    def member_fails(self, data: st.DataObject) -> None:
        self.etcd.failed_at[data.draw(st.sampled_from(sorted(self.etcd.healthy)))] = self.etcd.now_s

    @rule()
    def all_members_are_back(self) -> None:
        self.etcd.failed_at.clear()

    @invariant()
    def one_holder_may_act(self) -> None:
        at_it = [one for one in self.agents if one.at == "act" and self.etcd.now_s < one.checked_s + ACT_S]
        assert len(at_it) <= 1

    def teardown(self) -> None:
        """With nothing more going wrong, everything that the guard allows gets done and nothing is left behind."""
        if not hasattr(self, "etcd"):
            return
        self.etcd.failed_at.clear()
        for agent in self.agents:
            if agent.at == "act":
                agent.crash()
        for _ in range(MOST_STEPS):
            for agent in self.agents:
                self.run(agent)
            self.etcd.advance(1)
            if all(agent.at == "ended" for agent in self.agents if agent is not self.lost):
                break
        for agent in self.agents:
            left = agent.member_id in (self.etcd.learners if agent.verb == "promote" else self.etcd.voters)
            allowed = judge(self.etcd.view(), Ask(agent.verb, agent.member_id), Policy(SIZE)).allowed
            assert not (left and allowed), f"{agent.op_id} could be done, and is not"
            entry = self.etcd.get(op_claim.key(agent.op_id))
            assert entry is not None
            assert left or op_claim.decode(entry.value).state in ("succeeded", "running")


Changes.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)
TestChanges = Changes.TestCase


def holder_at_its_act(etcd: SmallEtcd, acts: list[Act]) -> Agent:
    agent = Agent("i-0", etcd, "operation-first", "remove", 2, 0.0, acts.append)
    advance_until(agent, lambda: agent.at == "act")
    return agent


def advance_until(agent: Agent, reached: Callable[[], bool]) -> None:
    """Steps, and a second of time whenever the agent waits for something."""
    for _ in range(2000):
        if reached():
            return
        agent.step()
        agent.etcd.advance(1 if agent.at in ("kept", "parked", "no lock") else 0)
    raise AssertionError(f"still at {agent.at!r}")


def test_a_holder_that_is_woken_after_the_takeover_finds_its_change_done() -> None:
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    frozen = holder_at_its_act(etcd, acts)
    etcd.advance(LEASE_S + 1)
    other = Agent("i-1", etcd, "operation-second", "remove", 3, 0.0, acts.append)
    for _ in range(40):
        other.step()
    assert etcd.voters == {1, 3}
    assert etcd.get(INTENT_KEY) is None
    frozen.step()
    assert etcd.voters == {1, 3}
    assert [(one.agent, one.member_id) for one in acts] == [("i-1", 2)]


def test_a_holder_that_is_woken_before_its_check_does_nothing() -> None:
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    agent = Agent("i-0", etcd, "operation-first", "remove", 2, 0.0, acts.append)
    advance_until(agent, lambda: agent.at == "intended")
    etcd.advance(LEASE_S + 1)
    agent.step()
    assert etcd.voters == {1, 2, 3}
    assert acts == []


def test_one_at_a_time_holds_the_lock() -> None:
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    holder_at_its_act(etcd, acts)
    other = Agent("i-1", etcd, "operation-second", "remove", 3, 0.0, acts.append)
    for _ in range(50):
        other.step()
        assert other.at != "locked"
    assert etcd.get(INTENT_KEY) is not None


def test_a_former_holder_writes_no_intent_over_that_of_the_next_one() -> None:
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    former = Agent("i-0", etcd, "operation-first", "remove", 2, 0.0, acts.append)
    advance_until(former, lambda: former.at == "guarded")
    etcd.advance(LEASE_S + 1)
    other = Agent("i-1", etcd, "operation-second", "remove", 3, 0.0, acts.append)
    advance_until(other, lambda: other.at == "intended")
    written = etcd.get(INTENT_KEY)
    former.step()
    assert etcd.get(INTENT_KEY) == written
    advance_until(other, lambda: other.at == "ended")
    assert etcd.voters == {1, 2}


def test_an_intent_that_the_guard_refuses_now_is_withdrawn_after_a_minute() -> None:
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    holder_at_its_act(etcd, acts)
    etcd.failed_at[1] = etcd.now_s
    etcd.advance(LEASE_S)
    other = Agent("i-1", etcd, "operation-second", "remove", 1, 0.0, acts.append)
    advance_until(other, lambda: other.at == "found: wait")
    found_s = etcd.now_s
    advance_until(other, lambda: etcd.get(INTENT_KEY) is None)
    assert etcd.now_s - found_s >= WITHDRAW_S
    assert acts == []


def test_the_window_that_remains_is_a_freeze_of_70_seconds_between_check_and_call() -> None:
    """What no program of ours can close, as MemberRemove takes no condition. It is told in ARCHITECTURE.md."""
    etcd, acts = SmallEtcd({1, 2, 3}), list[Act]()
    frozen = holder_at_its_act(etcd, acts)
    etcd.failed_at[3] = etcd.now_s
    etcd.advance(LEASE_S)
    other = Agent("i-1", etcd, "operation-second", "promote", 9, 0.0, acts.append)
    etcd.learners.add(9)
    advance_until(other, lambda: etcd.get(INTENT_KEY) is None)
    assert etcd.now_s - frozen.checked_s > FROZEN_S
    assert etcd.get(LOCK_KEY) is not None
    frozen.step()
    assert [(one.agent, one.member_id) for one in acts] == [("i-0", 2)]  # not announced any more
