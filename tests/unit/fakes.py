"""Typed stand-ins for what operations ask of the outside: they answer from memory and fail where a test says so."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from agent.domain.cluster import Alarm, EndpointStatus, Member
from agent.domain.hash_kv import HashKV
from agent.domain.request import Request
from agent.errors import EtcdUnavailable, KeyTaken, SnapshotInvalid, SnapshotNotFound
from agent.ports import Failures as FailedBefore
from agent.ports import KeyValue, SnapshotFile, StoredObject, UploadJournal

OWN, OTHER, THIRD = 2**63 + 1, 2**63 + 2, 2**63 + 3
ENDPOINT = "https://10.0.0.1:2379"
STATUS = EndpointStatus(
    endpoint=ENDPOINT, cluster_id=2**64 - 1, member_id=OWN, version="3.5.16", revision=20, leader=OTHER, raft_term=2,
    raft_applied_index=9, db_size_bytes=4096, is_learner=False,
)  # fmt: skip


def member(member_id: int, number: int, *, is_learner: bool = False) -> Member:
    return Member(
        member_id, f"node-{number}", (f"https://10.0.0.{number}:2380",), (f"https://10.0.0.{number}:2379",), is_learner
    )


def snapshot_bytes(pages: int = 8, fill: bytes = b"key and value ") -> bytes:
    """Whole pages and, as etcd appends it, the SHA-256 of them."""
    body = (fill * (512 * pages))[: 512 * pages]
    return body + hashlib.sha256(body).digest()


class Failures:
    """Errors to raise, by the name of the call; each time, or once."""

    def __init__(self) -> None:
        self._always: dict[str, BaseException] = {}
        self._once: dict[str, list[BaseException]] = {}
        self.calls: list[str] = []

    def always(self, call: str, error: BaseException) -> None:
        self._always[call] = error

    def once(self, call: str, error: BaseException) -> None:
        self._once.setdefault(call, []).append(error)

    def check(self, call: str) -> None:
        self.calls.append(call)
        if call in self._always:
            raise self._always[call]
        if self._once.get(call):
            raise self._once[call].pop(0)


@dataclass
class FakeEtcd:
    """A healthy cluster of three; a test changes what it wants to be otherwise."""

    failures: Failures = field(default_factory=Failures)
    statuses: list[EndpointStatus] = field(default_factory=lambda: [STATUS])
    member_list: list[Member] = field(default_factory=lambda: [member(OWN, 1), member(OTHER, 2), member(THIRD, 3)])
    alarm_list: list[Alarm] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)
    members_asked: list[int] = field(default_factory=list)
    live_keys: int | None = 7
    hash_answer: HashKV | None = field(default_factory=lambda: HashKV(0xAB, -1, None, OWN))
    hashed: list[tuple[int, float]] = field(default_factory=list)
    content: bytes = field(default_factory=snapshot_bytes)
    save_timeouts_s: list[float] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return ENDPOINT

    def status(self) -> EndpointStatus:
        self.failures.check("status")
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def members(self) -> Sequence[Member]:
        self.failures.check("members")
        return self.member_list

    def alarms(self) -> Sequence[Alarm]:
        self.failures.check("alarms")
        return self.alarm_list

    def linearizable_revision(self, endpoint: str | None = None, *, member_id: int = 0) -> int:
        self.failures.check(f"read {endpoint or ENDPOINT}")
        self.members_asked.append(member_id)
        return self.revisions.get(endpoint or ENDPOINT, 20)

    def count_keys(self, revision: int) -> int | None:
        self.failures.check("count_keys")
        return self.live_keys

    def hash_kv(self, revision: int, *, timeout_s: float) -> HashKV | None:
        self.failures.check("hash_kv")
        self.hashed.append((revision, timeout_s))
        return self.hash_answer

    def save_snapshot(self, path: Path, *, timeout_s: float, on_bytes: Callable[[int], None]) -> None:
        self.save_timeouts_s.append(timeout_s)
        part = path.with_name(path.name + ".part")
        part.write_bytes(self.content[:100])
        on_bytes(100)
        try:
            self.failures.check("save_snapshot")
        except BaseException:
            part.unlink()
            raise
        with part.open("ab") as stream:
            stream.write(self.content[100:])
        part.rename(path)


def no_door(url: str) -> FakeEtcd:
    """Where no other member can be reached."""
    etcd = FakeEtcd()
    etcd.failures.always("status", EtcdUnavailable(f"{url} does not answer"))
    return etcd


@dataclass
class FakeKeys:
    """Our keys in etcd; `before_put` is what another node does just before a write."""

    failures: Failures = field(default_factory=Failures)
    values: dict[str, KeyValue] = field(default_factory=dict)
    before_put: Callable[[], None] = lambda: None
    revision: int = 100

    def get(self, key: str) -> KeyValue:
        self.failures.check("get")
        return self.values.get(key, KeyValue(b"", 0))

    def below(self, prefix: str) -> dict[str, KeyValue]:
        self.failures.check("below")
        return {key: value for key, value in self.values.items() if key.startswith(prefix)}

    def put_if_unchanged(self, key: str, mod_revision: int, value: bytes) -> bool:
        self.before_put()
        self.failures.check("put")
        if self.values.get(key, KeyValue(b"", 0)).mod_revision != mod_revision:
            return False
        self.put(key, value)
        self.failures.check("put answered")
        return True

    def put(self, key: str, value: bytes) -> None:
        self.revision += 1
        self.values[key] = KeyValue(value, self.revision)


@dataclass
class FakeRequests:
    """What a node asks of itself."""

    failed: dict[str, FailedBefore] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def failures(self, op_id: str) -> FailedBefore:
        return self.failed.get(op_id, FailedBefore())

    def ask(self, request: Request) -> bool:
        self.asked.append(request)
        return True


@dataclass
class FakeTool:
    """Reads a revision in every file that is one of ours; finds the others damaged."""

    failures: Failures = field(default_factory=Failures)
    revision: int = 21
    name: str = "etcdutl 3.5.16"
    hash_answer: HashKV = field(default_factory=lambda: HashKV(0xAB, -1, 21))
    hashed: list[bytes] = field(default_factory=list)

    def describe(self) -> str:
        self.failures.check("describe")
        return self.name

    def hash_kv(self, path: Path, revision: int) -> HashKV:
        self.failures.check("tool_hash")
        self.hashed.append(path.read_bytes())
        path.write_bytes(b"written into")  # as the real one does
        return self.hash_answer

    def status(self, path: Path) -> SnapshotFile:
        self.failures.check("tool_status")
        content = path.read_bytes()
        if not content.startswith(b"key and"):
            raise SnapshotInvalid("the tool says that it is damaged")
        return SnapshotFile(hash=99, revision=self.revision, total_key=26, total_size_bytes=len(content) - 32)


@dataclass
class FakeStore:
    """Objects in memory; an upload that fails leaves nothing, as the contract of a store says."""

    failures: Failures = field(default_factory=Failures)
    objects: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)
    abandoned: list[str] = field(default_factory=list)
    integrity: Literal["passed", "unavailable"] = "passed"
    before: Callable[[str, str], None] = lambda call, key: None

    def describe(self) -> str:
        return "memory"

    def put(
        self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str], journal: UploadJournal,
        before_commit: Callable[[], None] = lambda: None,
    ) -> StoredObject:  # fmt: skip
        self.before("put", key)
        journal.begin(key, f"upload of {key}")
        self.uploads.add(key)
        try:
            content = b"".join(chunks)
            self.failures.check("put")
            before_commit()
            if key in self.objects:
                raise KeyTaken(f"{key} exists")
        finally:
            self.uploads.discard(key)
            journal.clear()
        self.objects[key], self.metadata[key] = content, dict(metadata)
        return StoredObject(key, len(content), hashlib.sha256(content).hexdigest(), "v1", self.integrity)

    def put_if_absent(self, key: str, content: bytes, *, metadata: Mapping[str, str]) -> bool:
        self.before("put_if_absent", key)
        self.failures.check("agree" if key.startswith("coordination/") else "put_if_absent")
        self.metadata.setdefault(key, dict(metadata))
        return self.objects.setdefault(key, content) == content

    def keys(self, folder: str) -> list[str]:
        self.failures.check("keys")
        return sorted(key for key in self.objects if key.startswith(folder))

    def read(self, key: str) -> bytes:
        self.failures.check("read")
        if key not in self.objects:
            raise SnapshotNotFound(f"{key} does not exist")
        return self.objects[key]

    @contextlib.contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[Iterator[bytes]]:
        self.before("open", key)
        self.failures.check("open")
        content = self.read(key)
        yield (content[start : start + 100] for start in range(0, len(content), 100))

    def abandon(self, key: str, upload_id: str) -> None:
        self.failures.check("abandon")
        self.abandoned.append(key)
        self.objects.pop(key, None)


def cut_off(status: EndpointStatus = STATUS) -> EndpointStatus:
    """A member that lost its cluster."""
    return replace(status, leader=0, errors=("etcdserver: no leader",))
