"""The design's safety rules a second time, written from its text on letters and counts, without the guard's code.

`forbidding` names every rule that stands in the way of what is asked; nothing stands in the way of what is allowed.
"""

from collections import Counter

from tests.unit.guard_worlds import World

VOTERS = "HLUDCnq"
DEAD = "Dn"


def forbidding(world: World, verb: str, target: int | None, size: int | None) -> set[str]:
    """The rules against a verb on the member at a place, where the cluster is meant to have `size` voters."""
    rest = Counter(world.letters)
    letter = "" if target is None else world.letters[target]
    if letter:
        rest[letter] -= 1
    learner_goes = verb == "remove" and letter in "lb"
    against = set() if has_leader(world) else {"G7"}
    if size is None and verb in ("remove", "replace", "add", "promote") and not learner_goes:
        against.add("G7")
    exempt = letter == "C" and verb == "remove"  # in a replacement its alarm would stand against the joiner
    if rest["C"] or (letter == "C" and not exempt):
        against.add("G5")
    size = size or 0
    if verb == "remove":
        against |= _removal(letter, rest, size)
    elif verb == "add":
        against |= _adding(rest)
    elif verb == "promote" and letter in "lb":
        against |= _promotion(letter, rest)
    elif verb == "replace":
        against |= _replacement(letter, rest, size)
    elif verb == "move-leader" and not (world.naming == "agreed" and target == world.lead) and letter != "H":
        against.add("target")
    elif verb == "defrag":
        against |= _defrag(letter, rest, size)
    return against


def has_leader(world: World) -> bool:
    """A leader is common when a majority of the voters names it and nobody a later one."""
    answering = sum(world.letters.count(one) for one in "HLC")
    return world.naming == "agreed" and answering >= majority(voters(Counter(world.letters)))


def voters(members: Counter[str]) -> int:
    return sum(members[one] for one in VOTERS)


def majority(count: int) -> int:
    return count // 2 + 1


def _removal(letter: str, rest: Counter[str], size: int) -> set[str]:
    if letter in "lb":
        return set()  # G3
    if voters(rest) == 0:
        return {"G6"}
    against = set()
    if rest["H"] < majority(voters(rest)):
        against.add({"D": "G2", "n": "G4"}.get(letter, "G1"))
    if letter not in DEAD and rest["H"] < size - 1:
        against.add("G1")
    return against


def _adding(members: Counter[str]) -> set[str]:
    return {"G8"} if members["l"] or members["b"] else set()


def _promotion(letter: str, rest: Counter[str]) -> set[str]:
    too_few = rest["H"] + 1 < majority(voters(rest) + 1)
    return {"G8"} if rest["D"] or rest["n"] or letter == "b" or too_few else set()


def _replacement(letter: str, rest: Counter[str], size: int) -> set[str]:
    if letter == "H":  # the joiner votes before it goes
        whole = rest + Counter("H")
        return _adding(whole) | _promotion("l", whole) | _removal("H", whole, size)
    return _removal(letter, rest, size) | _adding(rest) | _promotion("l", rest)


def _defrag(letter: str, rest: Counter[str], size: int) -> set[str]:
    """A member that stalls is an absence: the only one, and the others keep the quorum."""
    if letter not in "HLC":
        return {"target"}
    count = voters(rest) + 1
    alone = rest["H"] == voters(rest) and rest["H"] >= size - 1
    return set() if alone and rest["H"] >= majority(count) else {"G1"}
