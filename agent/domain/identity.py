"""Which member an instance runs: known by two sources that agree, gone, or unknown, and then nobody is touched.

The sources are the record that the instance's own agent wrote, its private address as EC2 tells it, the InternalIP of
the Kubernetes node with its providerID, and a peer URL's host that carries the instance's id. Addresses are compared
with the hosts of the peer URLs. One is used again when its instance is gone, so one source alone proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.domain.cluster import Member, hex_id
from agent.domain.member_health import GONE_STATES
from agent.domain.member_record import NodeRecord, Record, Tombstone
from agent.domain.membership import Holder, InstanceState, host_of, peer_hosts
from agent.domain.verdict import Rule


@dataclass(frozen=True)
class Instance:
    """What EC2 and Kubernetes say of an instance: private addresses and names of all its interfaces, InternalIPs."""

    instance_id: str
    state: InstanceState = "not-asked"
    addresses: frozenset[str] = frozenset()
    internal_ips: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Registered:
    """A record and the revision that wrote it; None for one that can not be read."""

    record: Record | None
    mod_revision: int


@dataclass(frozen=True)
class Registry:
    """All that is known of who runs what. `complete`: EC2 was asked who has each peer host, and answered."""

    cluster_id: int
    members: tuple[Member, ...]
    records: Mapping[str, Registered] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    complete: bool = False

    def state(self, instance_id: str) -> InstanceState:
        found = self.instances.get(instance_id)
        return "not-asked" if found is None else found.state

    def record(self, instance_id: str) -> Record | None:
        """The instance's record if it is of this cluster: a restore leaves those of a former one."""
        found = self.records.get(instance_id)
        record = None if found is None else found.record
        return record if record is not None and record.cluster_id == hex_id(self.cluster_id) else None


@dataclass(frozen=True)
class Mapped:
    """I1: the member that the instance runs, and the sources that say so."""

    member_id: int
    sources: tuple[str, ...]
    rule: Rule = "I1"


@dataclass(frozen=True)
class Gone:
    """I2: the instance runs no member any more."""

    why: str
    rule: Rule = "I2"


@dataclass(frozen=True)
class Unknown:
    """I3: it is not known which member, if any; `remedy` lists them and says how to name one."""

    why: str
    remedy: str
    rule: Rule = "I3"


Identity = Mapped | Gone | Unknown


def identify(instance_id: str, registry: Registry) -> Identity:
    """What is known of the member of an instance."""
    found = _mapped(instance_id, registry)
    if isinstance(found, Mapped):
        return found
    gone = _gone(instance_id, registry)
    return Gone(gone) if gone else Unknown(found, _remedy(registry))


def by_hand(member_id: int, other: str, registry: Registry) -> Identity:
    """A member that a person names by its id and by one thing more, which must name it too.

    `other` is an instance id, the member's name, its node's name, or its peer URL or the host of that.
    """
    if all(one.member_id != member_id for one in registry.members):
        return Unknown(f"no member {hex_id(member_id)} is listed", _remedy(registry))
    if not other:
        return Unknown("a member's id alone is not enough", _remedy(registry))
    named = _named_by(other, registry)
    if named == {member_id}:
        return Mapped(member_id, ("member id", other))
    says = ", ".join(f"member {hex_id(one)}" for one in sorted(named)) or "no member"
    return Unknown(f"{other} names {says}, not {hex_id(member_id)}", _remedy(registry))


def states_of(member_id: int, registry: Registry) -> tuple[InstanceState, ...]:
    """The states of every instance whose record names a member; one that lives is enough for it not to be dead."""
    return tuple(registry.state(one) for one in sorted(registry.records) if member_id in _by_record(one, registry))


def holder_of(member: Member, registry: Registry) -> Holder:
    """Whether an instance that lives, or may come back, has the member's peer host."""
    held = [one for one in registry.instances.values() if one.state not in GONE_STATES]
    if any(one.addresses & peer_hosts(member) or one.internal_ips & peer_hosts(member) for one in held):
        return "live"
    return "nobody" if registry.complete else "unknown"


def _mapped(instance_id: str, registry: Registry) -> Mapped | str:
    """The member that at least two sources name and none contradicts, or why there is none."""
    sources = _sources(instance_id, registry)
    named = {one for members in sources.values() for one in members}
    if not named:
        return f"nothing names the member of {instance_id}"
    if len(named) > 1:
        told = "; ".join(f"{source}: {', '.join(map(hex_id, sorted(of)))}" for source, of in sources.items())
        return f"the sources on {instance_id} name several members: {told}"
    (member_id,) = named
    if all(one.member_id != member_id for one in registry.members):
        return f"the record of {instance_id} names member {hex_id(member_id)}, which is not listed"
    if isinstance(registry.record(instance_id), Tombstone):
        return f"there is a tombstone of {instance_id}, and its address is that of member {hex_id(member_id)}"
    own = registry.record(instance_id)
    if isinstance(own, NodeRecord) and not own.member_id:  # its agent is sure: it may have another's address anew
        return f"the agent of {instance_id} says that none runs there, and its address is that of {hex_id(member_id)}"
    against = _claimed_by_another(instance_id, member_id, registry)
    if against:
        return against
    if len(sources) < 2:
        return f"only one source on {instance_id}, its {next(iter(sources))}, names member {hex_id(member_id)}"
    return Mapped(member_id, tuple(sources))


def _sources(instance_id: str, registry: Registry) -> dict[str, frozenset[int]]:
    """Each source that names a member, listed or not, with those that it names."""
    instance = registry.instances.get(instance_id, Instance(instance_id))
    found = {
        "record": _by_record(instance_id, registry),
        "private address": _by_host(instance.addresses, registry),
        "Kubernetes node": _by_host(instance.internal_ips, registry),
        "peer-URL host": frozenset(
            one.member_id
            for one in registry.members
            if any(host.partition(".")[0] == instance_id for host in peer_hosts(one))
        ),
    }
    return {source: members for source, members in found.items() if members}


def _by_record(instance_id: str, registry: Registry) -> frozenset[int]:
    record = registry.record(instance_id)
    if not isinstance(record, NodeRecord) or not record.member_id:
        return frozenset()
    return frozenset({_number(record.member_id)})


def _by_host(addresses: frozenset[str], registry: Registry) -> frozenset[int]:
    return frozenset(one.member_id for one in registry.members if peer_hosts(one) & addresses)


def _claimed_by_another(instance_id: str, member_id: int, registry: Registry) -> str:
    """Why another instance may be the one that runs the member; empty where none may.

    One that is gone and whose record is older gave it up: a data volume went to its follower. One that lives and merely
    has the address does not run it if its own agent says so.
    """
    own = registry.records.get(instance_id)
    for other in sorted({*registry.records, *registry.instances} - {instance_id}):
        gone = registry.state(other) in GONE_STATES
        theirs = registry.records.get(other)
        if theirs is not None and member_id in _by_record(other, registry):
            newer = own is not None and member_id in _by_record(instance_id, registry)
            if not (gone and newer and own is not None and own.mod_revision > theirs.mod_revision):
                return f"the record of {other} names member {hex_id(member_id)} too"
            continue
        # Of two that are gone and had the address one after the other, only a record tells which it was.
        recorded = gone and member_id in _by_record(instance_id, registry)
        silent = not recorded and not isinstance(registry.record(other), NodeRecord)
        if silent and any(member_id in members for members in _sources(other, registry).values()):
            return f"{other} has the peer host of member {hex_id(member_id)}, and its agent does not say who it is"
    return ""


def _gone(instance_id: str, registry: Registry) -> str:
    sources = _sources(instance_id, registry)
    if isinstance(registry.record(instance_id), Tombstone) and not sources:
        return f"there is a tombstone of {instance_id}"
    live = [
        one for one, known in registry.instances.items() if one != instance_id and known.state in ("pending", "running")
    ]
    owned = {found.member_id for one in live if isinstance(found := _mapped(one, registry), Mapped)}
    if registry.members and all(one.member_id in owned for one in registry.members):
        return f"every listed member is owned by another live instance than {instance_id}"
    return ""


def _named_by(other: str, registry: Registry) -> set[int]:
    host = host_of(other) or other.lower()
    found = {
        one.member_id for one in registry.members if other in (one.name, *one.peer_urls) or host in peer_hosts(one)
    }
    for instance_id in {*registry.records, *registry.instances}:
        record = registry.record(instance_id)
        if other == instance_id or (isinstance(record, NodeRecord) and record.node_name == other):
            found.update(*_sources(instance_id, registry).values())
    return found


def _number(member_id: str) -> int:
    """An id that is no hex number is nobody's: 0 is no member's id."""
    try:
        return int(member_id, 16)
    except ValueError:
        return 0


def _remedy(registry: Registry) -> str:
    listed = ", ".join(
        f"{hex_id(one.member_id)} {one.name or '(never started)'} at {' '.join(one.peer_urls)}"
        for one in registry.members
    )
    return f"listed are {listed or 'no members'}; name one by its id and its peer host: `etcd-agent node identity`"
