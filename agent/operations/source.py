"""Preflight: whether the local member may be what a snapshot is taken from, and what the snapshot must hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.domain import cluster
from agent.domain.cluster import EndpointStatus, Finding, Member
from agent.errors import CommandTimeout, EtcdError, NoSpace, Refused
from agent.operations.steps import Job
from agent.ports import Etcd

LOOKS_AGAIN = 2


@dataclass(frozen=True)
class Source:
    """The member that the snapshot is taken from, and the revision it must at least hold."""

    status: EndpointStatus
    least_revision: int
    note: str


def find(job: Job, etcd: Etcd, free_bytes: Callable[[Path], int], *, emergency: bool) -> Source:
    """The local member, if it may be the source now. `free_bytes` tells the room in a folder.

    Raises Refused, NoSpace, EtcdError.
    """
    status = etcd.status()
    others = [etcd.status() for _ in range(LOOKS_AGAIN)]
    needed, free = cluster.needed_disk_bytes(status.db_size_bytes), free_bytes(job.folder)
    if free < needed:
        raise NoSpace(
            f"{job.folder} has {free:,} bytes free; a snapshot of {status.db_size_bytes:,} bytes needs {needed:,}",
            hint="make room on that disk before etcd itself feels it",
        )
    for other in others:  # more than one: a load balancer may well choose the same member twice
        _refuse_first(cluster.endpoint_findings(status, other))
    if emergency:
        return Source(status, 0, "emergency")
    _refuse_first(cluster.leader_findings(status))
    members = etcd.members()
    _refuse_first(cluster.cluster_findings(status, members, etcd.alarms()))
    least_revision, note = _confirmed_revision(etcd, status, members)
    etcd.linearizable_revision()  # brings the local member up to what was read through the other one
    return Source(status, least_revision, note)


def _confirmed_revision(etcd: Etcd, status: EndpointStatus, members: Sequence[Member]) -> tuple[int, str]:
    voters = cluster.other_voters(members, status.member_id)
    if not voters:
        return etcd.linearizable_revision(), "sole_voter"
    problems = []
    for member in voters:
        for url in member.client_urls:
            try:
                revision = etcd.linearizable_revision(url, member_id=member.member_id)
                return revision, f"confirmed by {member.name}"
            except (EtcdError, CommandTimeout) as error:
                problems.append(f"{member.name}: {error}")
    raise Refused(
        f"none of the {len(voters)} other voters confirms this member's data: {'; '.join(problems)}",
        rule="no-other-voter",
        hint="repair a second member; to keep what this one holds anyway: `etcd-agent snapshot create --emergency`",
    )


def _refuse_first(findings: list[Finding]) -> None:
    for finding in findings:
        raise Refused(finding.message, rule=finding.rule, hint=finding.hint)
