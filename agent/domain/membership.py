"""The cluster as the guard sees it: each listed member with what it answered and what is known of it from outside.

A view may be partial: a member that gave no answer is a row as well. It holds no clock; ages are seconds that the
observer counted by its own boot clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member, hex_id

InstanceState = Literal[
    "pending", "running", "stopping", "stopped", "shutting-down", "terminated", "not-found", "not-asked"
]  # EC2's own words, `not-found` where it does not know the id, `not-asked` where nobody could ask it
Holder = Literal["live", "nobody", "unknown"]


@dataclass(frozen=True)
class Evidence:
    """What is known of a member from outside etcd. The defaults are no evidence at all.

    `instances` are the states of *every* instance whose record names the member. `silent_s` is for how long at least
    no healthy voter has heard it; `holder` whether a live instance has its peer host; `stalled_s` for how long a
    learner made no progress, by two readings of its applied index.
    """

    instances: tuple[InstanceState, ...] = ()
    declared_dead: bool = False
    silent_s: float = 0.0
    holder: Holder = "unknown"
    stalled_s: float = 0.0


@dataclass(frozen=True)
class Seat:
    """A row of the member list, what the member said of itself, else why it is silent, and the evidence on it."""

    member: Member
    status: EndpointStatus | None = None
    silence: str = ""
    evidence: Evidence = Evidence()

    @property
    def name(self) -> str:
        return f"member {hex_id(self.member.member_id)} {self.member.name}".rstrip()


@dataclass(frozen=True)
class View:
    """The whole list. `confirmed`: it came from an endpoint that had just answered a linearizable read.

    3.4's member lists are the answering member's own, so a list without that says nothing of now.
    """

    cluster_id: int
    seats: tuple[Seat, ...]
    alarms: tuple[Alarm, ...] = ()
    confirmed: bool = True
    downgrade_running: bool = False

    def seat(self, member_id: int) -> Seat | None:
        return next((seat for seat in self.seats if seat.member.member_id == member_id), None)

    def alarmed(self, kind: AlarmKind) -> list[int]:
        """The members that have such an alarm, as etcd tells it; an alarm outlives its member's row."""
        return [alarm.member_id for alarm in self.alarms if alarm.kind is kind]


def quorum(voters: int) -> int:
    """How many of so many voters make a majority."""
    return voters // 2 + 1


def peer_hosts(member: Member) -> frozenset[str]:
    """The hosts of the member's peer URLs, without ports and brackets, in lower case."""
    return frozenset(host for url in member.peer_urls if (host := host_of(url)))


def host_of(url: str) -> str:
    """The host of a URL such as https://10.0.0.1:2380; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def list_digest(members: Iterable[Member]) -> str:
    """64 hex digits that change with any row of the list: a member, its peer URLs, or whether it votes."""
    rows = sorted(f"{hex_id(one.member_id)} {one.is_learner:d} {' '.join(sorted(one.peer_urls))}" for one in members)
    return sha256("\n".join(rows).encode()).hexdigest()
