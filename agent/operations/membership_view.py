"""Looking at the membership: the cluster as each member tells it, how many voters it is meant to have, the records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.domain import member_record, membership_policy
from agent.domain.cluster import EndpointStatus
from agent.domain.cluster_health import ClusterView
from agent.domain.identity import Registered
from agent.domain.member_evidence import view_of
from agent.domain.member_health import Assessment, assess
from agent.errors import AgentError
from agent.operations import cluster_view
from agent.ports import Etcd, EtcdReader


@dataclass(frozen=True)
class Sight:
    """The cluster, and the same as the guard judges it. `size` is None where it is not on record, or not to be read."""

    cluster: ClusterView
    assessed: Assessment
    size: int | None

    @property
    def confirmed(self) -> bool:
        """Whether a linearizable read went before, so that a quorum stands behind the list and our keys can be read."""
        return self.assessed.view.confirmed


@dataclass(frozen=True)
class Records:
    """What the nodes' agents wrote of themselves, by instance id, or why it can not be told."""

    found: Mapping[str, Registered]
    unread: str = ""


def look(etcd: Etcd, keys: EtcdReader, own: EndpointStatus, at: Callable[[str], Etcd]) -> Sight:
    """Asks the local member for the list and each member for itself. Raises what listing the members does."""
    confirmed = _is_confirmed(etcd, own)
    cluster = cluster_view.look(etcd, own, at)
    view = view_of(cluster.answers, cluster.alarms, cluster_id=own.cluster_id, confirmed=confirmed)
    return Sight(cluster, assess(view), _size(keys) if confirmed else None)


def records(keys: EtcdReader, sight: Sight) -> Records:
    """The records of all nodes, those that can not be read too. Never raises: the list is worth more than they are."""
    if not sight.confirmed:
        return Records({}, "no linearizable read went through")
    try:
        entries = keys.below(member_record.PREFIX)
    except AgentError as error:
        return Records({}, error.message)
    return Records(
        {
            key.removeprefix(member_record.PREFIX): Registered(member_record.decode(key, one.value), one.mod_revision)
            for key, one in entries.items()
        }
    )


def _is_confirmed(etcd: Etcd, own: EndpointStatus) -> bool:
    """3.4's list is the member's own, so only a linearizable read just before says that it is one of now."""
    if not own.leader:
        return False  # it could only time out
    try:
        etcd.linearizable_revision(member_id=own.member_id)
    except AgentError:
        return False
    return True


def _size(keys: EtcdReader) -> int | None:
    try:
        seen = keys.get(membership_policy.POLICY_KEY)
    except AgentError:
        return None
    record = membership_policy.decode_size(seen.value if seen.mod_revision else None)
    return None if record is None else record.size
