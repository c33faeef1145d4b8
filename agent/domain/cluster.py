"""etcd's answers as plain data, and questions about them.

Ids are int here, as etcdctl's JSON has them (decimal, up to 2**64 - 1), and hex on its command line.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urlsplit

DISK_FACTOR = 1.2
UNSPECIFIED_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104 - addresses to listen on, at which nobody can be reached


class AlarmKind(IntEnum):
    """etcd's alarm types, by their wire number (etcdserverpb.AlarmType)."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


@dataclass(frozen=True)
class EndpointStatus:
    """What one member says of itself. `leader` is 0 when it knows none."""

    endpoint: str
    cluster_id: int
    member_id: int
    version: str
    revision: int
    leader: int
    raft_term: int
    raft_applied_index: int
    db_size_bytes: int
    is_learner: bool
    errors: tuple[str, ...] = ()

    @property
    def is_leader(self) -> bool:
        return self.leader != 0 and self.leader == self.member_id


@dataclass(frozen=True)
class Member:
    """A row of the member list; a member that never started has no name and no client URLs."""

    member_id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool

    @property
    def is_started(self) -> bool:
        return bool(self.name)


@dataclass(frozen=True)
class Alarm:
    """An active alarm of a member."""

    member_id: int
    kind: AlarmKind


@dataclass(frozen=True)
class Finding:
    """Why a snapshot must not be taken now: a stable rule, what was seen, and what would make it right."""

    rule: str
    message: str
    hint: str


def hex_id(number: int) -> str:
    """An id as etcdctl wants it in arguments and shows it to people."""
    return format(number, "x")


def other_voters(members: Iterable[Member], member_id: int) -> list[Member]:
    """The started voters but `member_id`, those that can confirm its answers."""
    return [
        member for member in members if member.member_id != member_id and member.is_started and not member.is_learner
    ]


def usable_urls(member: Member) -> tuple[str, ...]:
    """The client URLs at which the member may be reached from another node.

    A loopback address stays in: only the member id of what answers there tells whether it leads to that member.
    """
    return tuple(url for url in member.client_urls if _host(url) not in UNSPECIFIED_HOSTS)


def endpoint_findings(status: EndpointStatus, confirmed: EndpointStatus) -> list[Finding]:
    """What two answers of the configured endpoint say against it; a load balancer shows by two member ids."""
    findings: list[Finding] = []
    if status.member_id != confirmed.member_id:
        findings.append(
            Finding(
                "endpoint-not-one-member",
                f"{status.endpoint} answered as member {hex_id(status.member_id)} and as {hex_id(confirmed.member_id)}",
                "etcd.endpoints must name the local member, not a load balancer",
            )
        )
    if status.is_learner:
        findings.append(_learner(status))
    return findings


def cluster_findings(status: EndpointStatus, members: Iterable[Member], alarms: Iterable[Alarm]) -> list[Finding]:
    """What the cluster says against the member behind the configured endpoint as the source of a snapshot."""
    findings: list[Finding] = []
    own = next((member for member in members if member.member_id == status.member_id), None)
    if own is None:
        findings.append(
            Finding(
                "endpoint-not-listed",
                f"{status.endpoint} answers as member {hex_id(status.member_id)}, which the member list does not have",
                "the member was removed or belongs to another cluster: compare `etcdctl member list`",
            )
        )
    elif own.is_learner and not status.is_learner:
        findings.append(_learner(status))
    if any(alarm.member_id == status.member_id and alarm.kind == AlarmKind.CORRUPT for alarm in alarms):
        findings.append(
            Finding(
                "corrupt",
                f"member {hex_id(status.member_id)} at {status.endpoint} has the alarm CORRUPT",
                "take the snapshot on another member, and replace this one",
            )
        )
    return findings


def leader_findings(status: EndpointStatus) -> list[Finding]:
    """A member that knows no leader can not confirm its data."""
    return [] if status.leader else [_no_leader(status.endpoint)]


def needed_disk_bytes(db_size_bytes: int) -> int:
    """The free space to ask for before a snapshot of a database of this size is written."""
    return int(db_size_bytes * DISK_FACTOR)


def _no_leader(endpoint: str) -> Finding:
    return Finding(
        "no-leader",
        f"the member at {endpoint} knows no leader: the cluster has no quorum, its newest data can not be confirmed",
        "restore quorum first; to keep what this member holds anyway, use `snapshot create --emergency`",
    )


def _learner(status: EndpointStatus) -> Finding:
    return Finding(
        "learner",
        f"member {hex_id(status.member_id)} at {status.endpoint} is a learner, its data may be behind",
        "take the snapshot on a voting member, or promote this one",
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no IPv6 address
        return ""
