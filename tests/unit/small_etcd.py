"""A small model of etcd: keys with revisions and leases, transactions, time, a membership that takes no condition."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from agent.domain.cluster import EndpointStatus, Member
from agent.domain.membership import Evidence, Seat, View

CLUSTER_ID = 0xC1
Put = tuple[str, bytes, int]  # key, value, lease or 0
Compare = tuple[Literal["create", "mod"], str, int]


@dataclass
class Entry:
    value: bytes
    create_revision: int
    mod_revision: int
    lease_id: int


@dataclass
class SmallEtcd:
    """What a cluster agrees on. `now_s` is the true time; `failed_at` of each member that is down, since when."""

    voters: set[int]
    learners: set[int] = field(default_factory=set)
    failed_at: dict[int, float] = field(default_factory=dict)
    now_s: float = 0.0
    revision: int = 1
    entries: dict[str, Entry] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)

    @property
    def healthy(self) -> set[int]:
        return self.voters - self.failed_at.keys()

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for lease_id in [one for one, ends_s in self.leases.items() if ends_s <= self.now_s]:
            self.revoke(lease_id)

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def txn(
        self, compares: Iterable[Compare], puts: Iterable[tuple[str, bytes, int]] = (), deletes: Iterable[str] = ()
    ) -> bool:
        """All of it or nothing; an absent key has the revisions 0, and a lease that is gone takes no key."""
        puts = list(puts)
        if not all(self._revision_of(kind, key) == revision for kind, key, revision in compares):
            return False
        if any(lease_id and lease_id not in self.leases for _, _, lease_id in puts):
            return False
        self.revision += 1
        for key, value, lease_id in puts:
            old = self.entries.get(key)
            created = self.revision if old is None else old.create_revision
            self.entries[key] = Entry(value, created, self.revision, lease_id)
        for key in deletes:
            self.entries.pop(key, None)
        return True

    def grant(self, ttl_s: float) -> int:
        self.revision += 1
        self.leases[self.revision] = self.now_s + ttl_s
        return self.revision

    def keep_alive(self, lease_id: int, ttl_s: float) -> bool:
        if lease_id in self.leases:
            self.leases[lease_id] = self.now_s + ttl_s
        return lease_id in self.leases

    def revoke(self, lease_id: int) -> None:
        self.leases.pop(lease_id, None)
        self.entries = {key: entry for key, entry in self.entries.items() if entry.lease_id != lease_id}

    def members(self) -> tuple[Member, ...]:
        return tuple(
            Member(
                one, f"m{one}", (f"https://10.0.0.{one}:2380",), (f"https://10.0.0.{one}:2379",), one in self.learners
            )
            for one in sorted(self.voters | self.learners)
        )

    def view(self) -> View:
        """What a look shows; the lowest healthy voter leads while there is a quorum."""
        leader = min(self.healthy, default=0) if len(self.healthy) > len(self.voters) // 2 else 0
        seats = []
        for member in self.members():
            failed_at = self.failed_at.get(member.member_id)
            status = None if failed_at is not None else EndpointStatus(
                "", CLUSTER_ID, member.member_id, "3.5.30", self.revision, leader, 7, 100, 1, member.is_learner
            )  # fmt: skip
            silent_s = 0.0 if failed_at is None else self.now_s - failed_at
            seats.append(Seat(member, status, "", Evidence(instances=("terminated",), silent_s=silent_s)))
        return View(CLUSTER_ID, tuple(seats))

    def _revision_of(self, kind: str, key: str) -> int:
        entry = self.entries.get(key)
        if entry is None:
            return 0
        return entry.create_revision if kind == "create" else entry.mod_revision
