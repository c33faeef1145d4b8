"""Small worlds for the guard's tests: a letter for each member, how the leader is named, and the view of that.

H healthy · L lagging · U unhealthy (silent, and nothing known) · D dead · C CORRUPT · l learner in sync · n never
started and nobody has its host; and, beyond the states that are gone through exhaustively, b learner that lags · q
never started and a live instance has its host.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal

from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member
from agent.domain.membership import Evidence, Seat, View

STATES = "HLUDCln"
MORE_STATES = STATES + "bq"
CLUSTER_ID = 0xC1
TERM = 7
APPLIED = 1_000_000
LAG = 100_000
ANSWERING = "HLClb"
NEVER_STARTED = "nq"
Naming = Literal["agreed", "split", "none"]


@dataclass(frozen=True)
class World:
    """Members by their letters, in order; `lead` is the place of the one that leads where all agree."""

    letters: str
    naming: Naming
    lead: int = 0

    def __str__(self) -> str:
        return f"{self.letters} {self.naming} {self.lead if self.naming == 'agreed' else ''}".rstrip()


def member_id(place: int) -> int:
    """The id of the member at a place."""
    return 0xA0 + place


def worlds(most_members: int, states: str = STATES) -> Iterator[World]:
    """Every world of up to so many members, one of each that differ only in their members' order."""
    for count in range(1, most_members + 1):
        for letters in map("".join, combinations_with_replacement(states, count)):
            yield World(letters, "none")
            if sum(letters.count(one) for one in "HLC") > 1:
                yield World(letters, "split")
            for kind in "HC":
                if kind in letters:
                    yield World(letters, "agreed", letters.index(kind))


def view_of(world: World, alarms: tuple[Alarm, ...] = ()) -> View:
    """What an observer of that world sees."""
    seats = tuple(_seat(world, place, letter) for place, letter in enumerate(world.letters))
    corrupt = [Alarm(member_id(place), AlarmKind.CORRUPT) for place, one in enumerate(world.letters) if one == "C"]
    return View(CLUSTER_ID, seats, (*corrupt, *alarms))


def _seat(world: World, place: int, letter: str) -> Seat:
    host = f"10.0.0.{place + 1}"
    name = "" if letter in NEVER_STARTED else f"m{place}"
    client_urls = () if letter in NEVER_STARTED else (f"https://{host}:2379",)
    member = Member(member_id(place), name, (f"https://{host}:2380",), client_urls, letter in "lb")
    return Seat(member, _status(world, place, letter), "it refuses the connection", _evidence(letter))


def _status(world: World, place: int, letter: str) -> EndpointStatus | None:
    if letter not in ANSWERING:
        return None
    leader, term = _named(world, place)
    applied = APPLIED - (LAG if letter in "Lb" else 0)
    return EndpointStatus(
        endpoint=f"https://10.0.0.{place + 1}:2379", cluster_id=CLUSTER_ID, member_id=member_id(place),
        version="3.5.30", revision=5, leader=leader, raft_term=term, raft_applied_index=applied,
        db_size_bytes=1, is_learner=letter in "lb",
    )  # fmt: skip


def _named(world: World, place: int) -> tuple[int, int]:
    """The leader and term that a member names; in a split the last of those that answer names a later one."""
    if world.naming == "none":
        return 0, TERM
    answering = [at for at, letter in enumerate(world.letters) if letter in "HLC"]
    if world.naming == "split":
        return (member_id(answering[-1]), TERM + 1) if place == answering[-1] else (member_id(answering[0]), TERM)
    return member_id(world.lead), TERM


def _evidence(letter: str) -> Evidence:
    if letter == "D":
        return Evidence(instances=("terminated",), silent_s=61.0, holder="nobody")
    if letter == "n":
        return Evidence(silent_s=3600.0, holder="nobody")
    return Evidence(silent_s=3600.0 if letter == "U" else 0.0, holder="live" if letter == "q" else "unknown")
