"""The guard: whether a change of the membership may be made now, by which steps, or why not.

Pure: a view, what is asked and the policy go in, a plan or a refusal comes out. Whatever changes who votes is to pass
here first, and once more just before it acts. Rules and their numbers are those of `verdict.RULES`.
"""

from collections.abc import Callable

from agent.domain import guard_joining, guard_removal, guard_upkeep
from agent.domain.cluster import AlarmKind, hex_id
from agent.domain.guard_ask import Ask, Case, Policy, open_case
from agent.domain.member_health import Assessment, assess
from agent.domain.membership import View
from agent.domain.verdict import Refusal, Rule, Verdict

CHANGES = ("remove", "replace", "add", "promote")  # what changes the membership; the other verbs leave it
_RULES: dict[str, Callable[[Case], Verdict]] = {
    "remove": guard_removal.remove,
    "replace": guard_joining.replace,
    "add": guard_joining.add,
    "promote": guard_joining.promote,
    "move-leader": guard_upkeep.move_leader,
    "defrag": guard_upkeep.defrag,
}


def judge(view: View, ask: Ask, policy: Policy) -> Verdict:
    """The verdict on what is asked, as things are in the view."""
    return judge_assessed(assess(view, policy.max_lag_entries), ask, policy)


def judge_assessed(assessment: Assessment, ask: Ask, policy: Policy) -> Verdict:
    """The same for a view that is assessed already."""
    case = open_case(assessment, ask, policy)
    return _of_everyone(case) or _RULES[ask.verb](case)


def _of_everyone(case: Case) -> Refusal | None:
    """What stands against any verb, the most basic first."""
    changes = case.ask.verb in CHANGES
    checks = (
        _known,
        _paused if changes else None,
        _led,
        _sized if changes else None,
        _sound,
        _room if changes else None,
    )
    found = (check(case) for check in checks if check is not None)
    return next((refusal for refusal in found if refusal is not None), None)


def _known(case: Case) -> Refusal | None:
    if case.ask.verb == "add" or (case.ask.verb == "move-leader" and not case.ask.member_id):
        return None
    if case.target is None:
        listed = ", ".join(one.seat.name for one in case.now.members) or "nobody"
        remedy = f"listed are {listed}: `etcd-agent member list`"
        return case.refuse("I3", f"no member {hex_id(case.ask.member_id)} is listed", remedy)
    seat = case.target.seat
    if seat.member.is_learner and case.target.is_voter:
        reason = f"{case.target.told}: the view contradicts itself"
        return case.refuse(
            "G7", reason, "look again; if it stays, restart that member (etcd below 3.5.20 loses promotions)"
        )
    return None


def _paused(case: Case) -> Refusal | None:
    if not case.policy.pause or case.ask.by == "operator":
        return None
    remedy = "`etcd-agent resume`, or ask for it by hand"
    return case.refuse("paused", f"automatic changes are paused: {case.policy.pause}", remedy)


def _led(case: Case) -> Refusal | None:
    if not case.now.view.confirmed:
        reason = "the member list was not confirmed by a linearizable read, so it may be old"
        return case.refuse(
            "G7", reason, "look again; without a quorum nothing can be confirmed: restore the quorum first"
        )
    if case.now.leader is None:
        remedy = (
            "wait for an election to end; without a quorum no member can be changed: start the members that are down"
        )
        return case.refuse("G7", case.now.no_leader, f"{remedy}, or `etcd-agent node recover`")
    return None


def _sized(case: Case) -> Refusal | None:
    of_a_learner = case.ask.verb == "remove" and case.target is not None and not case.target.is_voter
    if case.policy.size is not None or of_a_learner:
        return None
    remedy = "it is known once an odd number of voters was whole for ten minutes, or by `etcd-agent member resize N`"
    return case.refuse("G7", "the size that the cluster is meant to have is not known", remedy)


def _sound(case: Case) -> Refusal | None:
    # A removed member's alarm stays, so what would follow the removal in a replacement is not allowed yet.
    exempt = case.ask.member_id if case.ask.verb == "remove" else 0
    corrupt = [one for one in case.now.view.alarmed(AlarmKind.CORRUPT) if one != exempt]
    if not corrupt:
        return None
    listed = [one for one in corrupt if case.now.of(one) is not None]
    reason = f"{', '.join(f'member {hex_id(one)}' for one in corrupt)} has the alarm CORRUPT"
    remedy = (
        f"remove it first: `etcd-agent member remove {hex_id(listed[0])}`, then disarm its alarm by hand"
        if listed
        else "no such member is listed any more: compare the data of the others (`etcdctl endpoint hashkv`), then "
        "disarm the alarm by hand"
    )
    return case.refuse("G5", reason, remedy, tuple(listed))


def _room(case: Case) -> Refusal | None:
    full = case.now.view.alarmed(AlarmKind.NOSPACE)
    if not full:
        return None
    rule: Rule = "no-space"
    named = ", ".join(f"member {hex_id(one)}" for one in full)
    remedy = "`etcd-agent maintain compact`, `maintain defrag`, then `maintain alarms --disarm`"
    return case.refuse(rule, f"{named} has the alarm NOSPACE, so etcd takes no writes and gives no lock", remedy)
