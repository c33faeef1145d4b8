"""When the leadership may move, and when a member may be defragmented, which makes it stop answering for a while."""

from agent.domain.cluster import AlarmKind, hex_id
from agent.domain.guard_ask import Case
from agent.domain.guard_removal import hand_over
from agent.domain.member_health import Assessment, Judged, answers_as_itself
from agent.domain.membership import quorum
from agent.domain.verdict import Refusal, Step, Verdict


def move_leader(case: Case) -> Verdict:
    """Gives the leadership to the target, or to the most caught-up healthy voter that does not have it."""
    leader_id = 0 if case.now.leader is None else case.now.leader.member_id
    heir = case.target if case.ask.member_id else case.now.most_caught_up(other_than=leader_id)
    if heir is None:
        return case.refuse("target", "no other voter is healthy", "repair another voter first")
    if heir.member_id == leader_id:
        return case.allow("G7")
    if not heir.counts:
        why = heir.told if heir.is_voter else f"{heir.seat.name} is a learner"
        return case.refuse(
            "target", why, "name a healthy voter, or none to have the best one chosen", (heir.member_id,)
        )
    return case.after(Step("move-leader", heir.member_id, f"move the leadership to {heir.seat.name}")).allow("G7")


def defrag(case: Case) -> Verdict:
    """Defragments the target, after the leadership has moved away from it."""
    target = case.the_target
    if not target.is_voter:
        return case.refuse("target", f"{target.seat.name} is a learner, which refuses it", "promote it first")
    if not answers_as_itself(target.seat, case.now.view):
        return case.refuse("target", target.told, "repair it first", (target.member_id,))
    refusal = _stall_too_many(case, target)
    if refusal is not None:
        return refusal
    step = Step("defrag", target.member_id, f"defragment {target.seat.name}")
    return hand_over(case, target).after(step).allow("G1")


def defrag_order(now: Assessment) -> list[Judged]:
    """Every voter that can be defragmented, by id, and the leader last."""
    leader_id = 0 if now.leader is None else now.leader.member_id
    able = [one for one in now.voters if answers_as_itself(one.seat, now.view)]
    return sorted(able, key=lambda one: (one.member_id == leader_id, one.member_id))


def _stall_too_many(case: Case, target: Judged) -> Refusal | None:
    """A member that defragments is an absence for a while.

    Under NOSPACE the cluster takes no writes anyway and nothing but this cures it, so there it is enough that the
    others have the quorum, and an operator may do without that too.
    """
    others = [one for one in case.now.voters if one is not target]
    left, full = case.healthy_besides(target.member_id), bool(case.now.view.alarmed(AlarmKind.NOSPACE))
    unwell = [one for one in others if not one.counts]
    size = case.policy.size or 0
    blockers = tuple(one.member_id for one in unwell)
    if unwell and not full:
        reason = f"{', '.join(one.told for one in unwell)}, and one absence at a time is allowed"
        return case.refuse("G1", reason, "repair it, or remove it if it is dead", blockers)
    if left < size - 1 and not full:
        reason = f"{len(case.now.voters)} voters are listed of the {size} that the cluster is meant to have"
        return case.refuse("G1", reason, "let the missing voter join first")
    if left < quorum(len(case.now.voters)) and not case.ask.accept_stall:
        reason = f"while {target.seat.name} defragments, the cluster takes no writes: {left} other voters are no quorum"
        remedy = f"take that by `etcd-agent maintain defrag {hex_id(target.member_id)} --accept-stall`"
        return case.refuse("G1", reason, remedy, blockers)
    return None
