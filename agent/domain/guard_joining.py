"""When a member may be added, promoted, or replaced by another one. Nothing votes before it was a learner in sync."""

from agent.domain import guard_removal
from agent.domain.cluster import hex_id
from agent.domain.etcd_tools import minor_version
from agent.domain.guard_ask import Case, Joiner
from agent.domain.member_health import Judged
from agent.domain.membership import host_of, peer_hosts, quorum
from agent.domain.verdict import JOINER, Refusal, Step, Verdict


def add(case: Case) -> Verdict:
    """Adds the joiner as a learner."""
    return _against_adding(case) or _adding(case).allow("G8")


def promote(case: Case) -> Verdict:
    """Makes the target a voter."""
    target = case.the_target
    if target.is_voter:
        return case.allow("G8")
    return _against_promoting(case, target) or _promoting(case, target).allow("G8")


def replace(case: Case) -> Verdict:
    """Puts the joiner in the target's place.

    A healthy target goes last, when the joiner votes, so that the margin never dips. One that is not healthy goes
    first, as does one whose peer host the joiner has: etcd does not list a peer URL twice.
    """
    target, joiner = case.the_target, case.ask.joiner
    if joiner is None:
        return _no_joiner(case)
    joins_first = target.counts and not peer_hosts(target.seat.member) & _hosts(joiner)
    if not joins_first:
        refusal = guard_removal.against(case)
        if refusal is not None:
            return refusal
        case = guard_removal.steps(case)
    refusal = _against_adding(case)
    if refusal is not None:
        return refusal
    case = _adding(case)
    joined = case.now.members[-1]
    refusal = _against_promoting(case, joined)
    if refusal is not None:
        return refusal
    case = _promoting(case.after(Step("await-sync", JOINER, f"wait until {joiner.name} is in sync")), joined)
    if joins_first:
        refusal = guard_removal.against(case)
        if refusal is not None:
            return refusal
        case = guard_removal.steps(case)
    return case.allow(guard_removal.rule_of(target))


def cluster_minor(case: Case) -> tuple[int, int] | None:
    """etcd's cluster version: the lowest minor of those that answer; None where none is readable."""
    said = [minor_version(one.seat.status.version) for one in case.now.members if one.seat.status is not None]
    return min((minor for minor in said if minor is not None), default=None)


def _against_adding(case: Case) -> Refusal | None:
    joiner = case.ask.joiner
    if joiner is None or not joiner.peer_urls:
        return _no_joiner(case)
    taken = [one for one in case.now.members if peer_hosts(one.seat.member) & _hosts(joiner)]
    if taken:
        reason = f"{taken[0].seat.name} is listed with the peer host of {joiner.name} already"
        remedy = f"if a former node left it, remove it first: `etcd-agent member remove {hex_id(taken[0].member_id)}`"
        return case.refuse("I1", reason, remedy, (taken[0].member_id,))
    if case.now.learners:
        first = case.now.learners[0]
        reason = f"{first.seat.name} is a learner already, and one joins at a time"
        return case.refuse("G8", reason, "promote it once it is in sync, or remove it", (first.member_id,))
    return _version_unfit(case, joiner.version, joiner.name)


def _adding(case: Case) -> Case:
    joiner = case.ask.joiner or Joiner("", ())
    told = f"add {joiner.name} at {', '.join(joiner.peer_urls)} as a learner"
    return case.after(Step("add-learner", JOINER, told, joiner.peer_urls))


def _against_promoting(case: Case, learner: Judged) -> Refusal | None:
    dead = [one for one in case.now.voters if one.condition == "dead"]
    if dead:
        remedy = f"remove it first: `etcd-agent member remove {hex_id(dead[0].member_id)}`"
        return case.refuse("G8", f"{dead[0].told} and still has a vote", remedy, tuple(one.member_id for one in dead))
    if learner.condition != "healthy":
        remedy = "wait until it has caught up; if it never does, remove it"
        return case.refuse("G8", f"the learner {learner.told}", remedy, (learner.member_id,))
    voters, healthy = len(case.now.voters) + 1, case.now.healthy + 1
    if healthy < quorum(voters):
        unwell = [one for one in case.now.voters if not one.counts]
        reason = f"with it {healthy} of {voters} voters would be healthy, and {quorum(voters)} are the quorum"
        remedy = f"repair {', '.join(one.told for one in unwell)}"
        return case.refuse("G8", reason, remedy, tuple(one.member_id for one in unwell))
    version = "" if learner.seat.status is None else learner.seat.status.version
    return _version_unfit(case, version, learner.seat.name)


def _promoting(case: Case, learner: Judged) -> Case:
    name = learner.seat.member.name if learner.member_id == JOINER else learner.seat.name
    return case.after(Step("promote", learner.member_id, f"promote {name}"))


def _version_unfit(case: Case, version: str, name: str) -> Refusal | None:
    if case.now.view.downgrade_running:
        return case.refuse("G9", "a downgrade of the cluster is going on", "wait for its end, or cancel it by etcdctl")
    joining, here = minor_version(version), cluster_minor(case)
    if joining is None or here is None:
        return None  # then etcd itself, which does not let an older one start, is the only check
    if here <= joining <= (here[0], here[1] + 1):
        return None
    reason = f"{name} runs etcd {version}, and the cluster {here[0]}.{here[1]}"
    return case.refuse("G9", reason, f"install etcd {here[0]}.{here[1]} or {here[0]}.{here[1] + 1} on it")


def _hosts(joiner: Joiner) -> frozenset[str]:
    return frozenset(host for url in joiner.peer_urls if (host := host_of(url)))


def _no_joiner(case: Case) -> Refusal:
    return case.refuse("I3", "it is not said who joins, and at which peer URL", "name the new member and its peer URL")
