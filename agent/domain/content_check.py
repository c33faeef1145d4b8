"""Level `content`: which member may be asked for its HashKV now, and what its answer is compared with.

HashKV keeps the writes of the member that it is asked of waiting for its whole scan, which goes on in etcd when the
client has given up. So it is asked of followers alone, of one at a time, of small databases alone, and only in a
cluster that could lose that member at this moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent.domain.cluster import AlarmKind, EndpointStatus, Finding, Member, hex_id
from agent.domain.cluster_health import Answer, ClusterView
from agent.domain.etcd_tools import minor_version, same_minor
from agent.domain.snapshot import Manifest

FILES_HASHED_SINCE = (3, 6)  # `etcdutl hashkv`
MOST_LAG_ENTRIES = 1000
NOT_COMPARABLE = "content-not-comparable"
SOON = "take a snapshot and check it at once: Kubernetes compacts every five minutes, and that ends it"


@dataclass(frozen=True)
class Asked:
    """A follower that may be asked, and what it said of itself just now."""

    member: Member
    status: EndpointStatus

    @property
    def name(self) -> str:
        return f"member {hex_id(self.member.member_id)} {self.member.name}".rstrip()


@dataclass(frozen=True)
class Plan:
    """Who is asked, one after the other; compared with the snapshot's file, or with each other.

    Of two members the first is the one that the snapshot was taken from.
    """

    kind: Literal["file", "members"]
    asked: tuple[Asked, ...]


def plan(view: ClusterView, backup: Manifest, *, max_db_bytes: int) -> Plan | Finding:
    """Who may be asked about a snapshot now, or the first thing that stands against it.

    A finding of the rule `content-not-comparable` is about this snapshot, any other about the cluster at this moment.
    """
    against = _unhealthy(view) or _no_spare(view) or _of_another_keyspace(view, backup)
    if against is not None:
        return against
    voters = [Asked(answer.member, answer.status) for answer in view.voters if answer.status is not None]
    source = next((one for one in voters if hex_id(one.member.member_id) == backup.member_id), None)
    others = [one for one in voters if one is not source and not one.status.is_leader]
    if hashes_files(backup.etcd_version):
        other = _fittest(others, view, backup, max_db_bytes)
        return Plan("file", (other,)) if isinstance(other, Asked) else other
    if source is None or source.status.is_leader:
        now = "is no voter any more" if source is None else "leads the cluster"
        return not_comparable(
            f"etcd {backup.etcd_version} has no tool that hashes a snapshot's file, so the member that it was taken "
            f"from would be asked, and that one, {backup.member_id}, {now}",
            "take the next snapshot from a follower",
        )
    other = _unfit(source, backup, max_db_bytes) or _fittest(others, view, backup, max_db_bytes)
    return Plan("members", (source, other)) if isinstance(other, Asked) else other


def hashes_files(etcd_version: str) -> bool:
    """Whether the etcdutl of that version has `hashkv`."""
    minor = minor_version(etcd_version)
    return minor is not None and minor >= FILES_HASHED_SINCE


def not_comparable(why: str, hint: str = SOON) -> Finding:
    """Why nothing can be said of a snapshot's content, which is neither "equal" nor "differs"."""
    return Finding(NOT_COMPARABLE, why, hint)


def _unhealthy(view: ClusterView) -> Finding | None:
    """A stalled member is an absence for a while, so there may be no other one."""
    reasons = [f"member {hex_id(one.member_id)} has the alarm {one.kind.name}" for one in view.alarms
               if one.kind is not AlarmKind.NONE]  # fmt: skip
    if not view.own.leader:
        reasons.append(f"{view.own.endpoint} knows no leader")
    leader = next((one.status for one in view.voters if one.status is not None and one.status.is_leader), None)
    reasons += [f"{one.member.name or hex_id(one.member.member_id)} {why}" for one in view.voters
                if (why := _why_unhealthy(one, view, leader))]  # fmt: skip
    if not reasons:
        return None
    return Finding(
        "content-unhealthy",
        f"a hash stalls the member that is asked, and the cluster is not whole: {'; '.join(reasons)}",
        "repair that first: `etcd-agent status`",
    )


def _why_unhealthy(answer: Answer, view: ClusterView, leader: EndpointStatus | None) -> str:
    status = answer.status
    if not answer.member.is_started:
        return "never started"
    if status is None:
        return f"does not answer: {answer.silence}"
    if (status.member_id, status.cluster_id) != (answer.member.member_id, view.own.cluster_id):
        return f"is answered for by member {hex_id(status.member_id)} of cluster {hex_id(status.cluster_id)}"
    if status.is_learner:
        return "says that it is a learner"
    if leader is None or (status.leader, status.raft_term) != (leader.member_id, leader.raft_term):
        return f"names the leader {hex_id(status.leader)} in term {status.raft_term}, as not all do"
    if status.errors:
        return f"says {', '.join(status.errors)}"
    lag = leader.raft_applied_index - status.raft_applied_index
    return f"is {lag} entries behind the leader" if lag > MOST_LAG_ENTRIES else ""


def _no_spare(view: ClusterView) -> Finding | None:
    if len(view.voters) - 1 >= view.quorum:
        return None
    return Finding(
        "content-no-spare",
        f"of {len(view.voters)} voters none can be spared: while one stalls, the cluster takes no writes",
        "this level needs three voters; `etcd-agent snapshot verify` without --level asks no member",
    )


def _of_another_keyspace(view: ClusterView, backup: Manifest) -> Finding | None:
    if hex_id(view.own.cluster_id) != backup.etcd_cluster_id:
        here = f"this is {hex_id(view.own.cluster_id)}"
        return not_comparable(f"it was taken from the etcd cluster {backup.etcd_cluster_id}, and {here}")
    if backup.revision < 1 or backup.live_keys == 0:
        return not_comparable(f"it holds no keys, at revision {backup.revision}")
    return None


def _fittest(candidates: Sequence[Asked], view: ClusterView, backup: Manifest, max_db_bytes: int) -> Asked | Finding:
    """Rather another node's member than this one's, which has the work of the check already."""
    against = [_unfit(one, backup, max_db_bytes) for one in candidates]
    fit = [one for one, finding in zip(candidates, against, strict=True) if finding is None]
    if fit:
        return min(fit, key=lambda one: (one.member.member_id == view.own.member_id, one.member.member_id))
    return next((finding for finding in against if finding is not None), not_comparable("no other follower is there"))


def _unfit(asked: Asked, backup: Manifest, max_db_bytes: int) -> Finding | None:
    status = asked.status
    if not same_minor(status.version, backup.etcd_version):
        return not_comparable(f"it is of etcd {backup.etcd_version}, and {asked.name} is of {status.version}")
    if status.db_size_bytes > max_db_bytes:
        return Finding(
            "content-too-large",
            f"{asked.name} has a database of {status.db_size_bytes:,} bytes, and is not stalled for more than "
            f"{max_db_bytes:,}",
            "defragment it, or raise verify.content_max_db_bytes if its writes may wait for that long",
        )
    if status.revision < backup.revision:
        return Finding(
            "content-behind",
            f"{asked.name} is at revision {status.revision}, the snapshot at {backup.revision}",
            "try again when it has caught up; if it never does, that snapshot is of another history",
        )
    return None
