"""When a member may be removed: a learner, a dead voter, a live one."""

from agent.domain.cluster import hex_id
from agent.domain.guard_ask import Case
from agent.domain.member_health import Judged
from agent.domain.membership import quorum
from agent.domain.verdict import JOINER, Refusal, Rule, Step, Verdict

# By two readings of its applied index; what makes no progress for so long will not.
STALLED_S = 15 * 60.0


def remove(case: Case) -> Verdict:
    """Removes the target, after the leadership has moved away from it."""
    refusal = against(case)
    return refusal or steps(case).allow(rule_of(case.the_target))


def rule_of(target: Judged) -> Rule:
    """The rule by which such a member goes."""
    if not target.is_voter:
        return "G3"
    if target.condition != "dead":
        return "G1"
    return "G2" if target.seat.member.is_started else "G4"


def against(case: Case) -> Refusal | None:
    """What stands against the removal of the target alone."""
    target = case.the_target
    if not target.is_voter:
        return _learner_stays(case, target) if case.ask.by == "node" else None
    if len(case.now.voters) == 1:
        remedy = "add another member and promote it first; to give up the cluster, stop etcd on that node"
        return case.refuse("G6", f"{target.seat.name} is the only voter", remedy)
    if target.condition == "dead":
        return _quorum_breaks(case, target, rule_of(target))
    if case.ask.by == "node":
        why = target.why or "is healthy"
        remedy = (
            f"if its instance is gone for good, say so: `etcd-agent member remove {hex_id(target.member_id)} --dead`"
        )
        return case.refuse("G2", f"{target.seat.name} {why}, which is no evidence that it is dead", remedy)
    return _absence_too_many(case, target) or _quorum_breaks(case, target, "G1")


def steps(case: Case) -> Case:
    """The case after leadership has moved, where the target has it, and the target has gone."""
    target = case.the_target
    case = hand_over(case, target)
    return case.after(Step("remove", target.member_id, f"remove {target.seat.name}"))


def hand_over(case: Case, target: Judged) -> Case:
    """The case after the leadership went from the target, if it leads and another healthy voter is there."""
    heir = case.now.most_caught_up(other_than=target.member_id)
    if case.now.leader is None or case.now.leader.member_id != target.member_id or heir is None:
        return case
    name = "the new member" if heir.member_id == JOINER else heir.seat.name
    return case.after(Step("move-leader", heir.member_id, f"move the leadership to {name}"))


def _absence_too_many(case: Case, target: Judged) -> Refusal | None:
    left = case.healthy_besides(target.member_id)
    if left >= case.size - 1:
        return None
    reason = (
        f"without {target.seat.name} {left} healthy voters are left of the {case.size} that the cluster is meant to "
        "have, and one absence at a time is allowed"
    )
    return case.refuse("G1", reason, f"{_remedy(case, target)}{_smaller(case, left)}", _blockers(case, target))


def _quorum_breaks(case: Case, target: Judged, rule: Rule) -> Refusal | None:
    left, voters = case.healthy_besides(target.member_id), len(case.now.voters) - 1
    if _keeps_quorum(case, target):
        return None
    reason = f"without {target.seat.name} {left} of {voters} voters are healthy, and {quorum(voters)} are the quorum"
    return case.refuse(rule, reason, _remedy(case, target), _blockers(case, target))


def _keeps_quorum(case: Case, target: Judged) -> bool:
    return case.healthy_besides(target.member_id) >= quorum(len(case.now.voters) - 1)


def _blockers(case: Case, target: Judged) -> tuple[int, ...]:
    return tuple(one.member_id for one in case.now.voters if not one.counts and one is not target)


def _remedy(case: Case, target: Judged) -> str:
    others = [one for one in case.now.voters if not one.counts and one is not target]
    dead = [one for one in others if one.condition == "dead" and _keeps_quorum(case, one)]
    told = [f"remove {one.seat.name} first, which {one.why}" for one in dead]
    told += [f"repair {one.seat.name}, which {one.why}" for one in others if one not in dead]
    missing = case.size - len(case.now.voters)
    if missing > 0 and target.condition != "dead":
        told.append(f"let {'the missing voter' if missing == 1 else f'the {missing} missing voters'} join first")
    if not told:
        told.append("let another voter join first")
    return " and ".join(told)


def _smaller(case: Case, left: int) -> str:
    """The size that would do, where the healthy voters that are left would be a quorum too."""
    fits = left + 1 if left % 2 == 0 else left
    if left < quorum(len(case.now.voters) - 1) or fits < 1:
        return ""
    return f"; or, if the cluster is meant to be smaller: `etcd-agent member resize {fits}`"


def _learner_stays(case: Case, target: Judged) -> Refusal | None:
    evidence = target.seat.evidence
    if evidence.holder == "nobody" or evidence.stalled_s >= STALLED_S or target.condition == "dead":
        return None
    reason = f"{target.seat.name} is a learner that may still get there"
    remedy = f"wait, or remove it by hand: `etcd-agent member remove {hex_id(target.member_id)}`"
    return case.refuse("J4", reason, remedy)
