"""Cases by number out of one seed: damaged bytes offered to create, verify and download, and what caught each."""

import random
from collections import Counter
from dataclasses import dataclass, field

from tests.damage import kinds
from tests.damage.place import Place, pack

WAYS = ("create", "verify", "download")
OF_A_WHOLE_RUN = 10_000


@dataclass
class Found:
    """How often which check caught which kind on which way; what was accepted, by kind, way and number."""

    cases: int = 0
    caught: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    accepted: list[tuple[str, str, int]] = field(default_factory=list)


def run(place: Place, count: int, seed: int, *, first: int = 0) -> Found:
    """Each kind in turn. A case is one damaged snapshot, offered to create, verify and download.

    To the latter two in turn as damage to what is stored, and as a right archive of a damaged snapshot whose checksum
    the manifest has: so that also the checks behind the first one are tried.
    """
    found, names = Found(), list(kinds.KINDS)
    for number in range(first, first + count):
        kind, rng = names[number % len(names)], random.Random(seed * 1_000_003 + number)
        raw = kinds.damaged(kind, rng, place.raw, place.older)
        told = number % 2 == 1
        packed = pack(raw) if told else kinds.damaged(kind, rng, place.packed, place.packed_older)
        caught = {"create": place.created(raw)}
        with place.stored(packed, told=told):
            caught |= {"verify": place.verified(), "download": place.downloaded()}
        found.cases += 1
        for way, by in caught.items():
            found.caught[kind, way, by] += 1
            if not by:
                found.accepted.append((kind, way, number))
    return found
