"""What operations ask of the outside: protocols that a real adapter and a test's fake, or two adapters, implement."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from agent.domain.cluster import Alarm, EndpointStatus, Member
from agent.domain.hash_kv import HashKV
from agent.domain.outbox import Bounds, Draft, Kept
from agent.domain.request import Request

MOST_SMALL_BYTES = 4 * 1024 * 1024  # of what `Store.read` takes for a manifest or a record


@dataclass(frozen=True)
class SnapshotFile:
    """What the status tool reads in a snapshot file."""

    hash: int
    revision: int
    total_key: int
    total_size_bytes: int


@dataclass(frozen=True)
class StoredObject:
    """An object that the store confirmed. `stored` is `unavailable` where it can not prove integrity."""

    key: str
    size_bytes: int
    sha256: str
    version_id: str
    stored: Literal["passed", "unavailable"]


class Etcd(Protocol):
    """The cluster as seen through the local member's endpoint."""

    @property
    def endpoint(self) -> str: ...

    def status(self) -> EndpointStatus: ...

    def members(self) -> Sequence[Member]: ...

    def alarms(self) -> Sequence[Alarm]: ...

    def linearizable_revision(self, endpoint: str | None = None, *, member_id: int = 0) -> int:
        """The newest committed revision, read through that endpoint, which must be that member's, or the local one."""
        ...

    def count_keys(self, revision: int) -> int | None:
        """How many keys live at a revision; None where it is compacted."""
        ...

    def hash_kv(self, revision: int, *, timeout_s: float) -> HashKV | None:
        """HashKV of the member at the endpoint; None where the revision is compacted. Its writes wait for it."""
        ...

    def save_snapshot(self, path: Path, *, timeout_s: float, on_bytes: Callable[[int], None]) -> None: ...


@dataclass(frozen=True)
class KeyValue:
    """A key's value and the revision of its last change, 0 where there is no such key."""

    value: bytes
    mod_revision: int


class EtcdReader(Protocol):
    """Our few keys in etcd to be read, through the local member. Raises EtcdError's family."""

    def get(self, key: str) -> KeyValue:
        """Linearizable."""
        ...

    def below(self, prefix: str) -> Mapping[str, KeyValue]:
        """Every key that begins so, by its whole name; linearizable."""
        ...


class EtcdKeys(EtcdReader, Protocol):
    """The same to be written too."""

    def put_if_unchanged(self, key: str, mod_revision: int, value: bytes) -> bool:
        """Writes if the key's last change is still that one. False when it is not."""
        ...


@dataclass(frozen=True)
class Failures:
    """How often an operation of this node failed in its newest generations, and when it last did."""

    count: int = 0
    last_at: str = ""


class OwnRequests(Protocol):
    """What this node asks of itself."""

    def failures(self, op_id: str) -> Failures: ...

    def ask(self, request: Request) -> bool:
        """Puts it into the spool, again after it ended. False when it waits or runs already."""
        ...


class Tools(Protocol):
    """Where etcdctl and etcdutl are taken from."""

    @property
    def are_copied(self) -> bool:
        """Whether they are those that the root service copies out of the running etcd."""
        ...

    def version(self) -> str:
        """What etcdctl says its version is; copied ones are made, or checked, first."""
        ...

    def refresh(self) -> None:
        """Has them copied again."""
        ...


class SnapshotTool(Protocol):
    """etcdutl, or etcdctl where it still reads snapshot files."""

    def describe(self) -> str:
        """Name and version."""
        ...

    def status(self, path: Path) -> SnapshotFile: ...


class HashTool(Protocol):
    """etcdutl from 3.6 on."""

    def describe(self) -> str:
        """Name and version."""
        ...

    def hash_kv(self, path: Path, revision: int) -> HashKV:
        """HashKV of a file at a revision. It may write into the file."""
        ...


class UploadJournal(Protocol):
    """Remembers an upload before it starts, so that the next attempt can abort what a crash left."""

    def begin(self, key: str, upload_id: str) -> None:
        """Before the store is asked for an upload, without an id; again once it has one."""
        ...

    def clear(self) -> None: ...


@dataclass(frozen=True)
class ObjectFacts:
    """What a store tells of an object besides its bytes; `locked_until` is None without an object lock."""

    modified_at: datetime
    locked_until: datetime | None


class Eraser(Protocol):
    """The right to remove objects, apart from the store: in a bucket no node has it."""

    def facts(self, key: str) -> ObjectFacts | None:
        """None when there is no such object."""
        ...

    def remove(self, key: str) -> None:
        """Removes an object; no error when it is gone."""
        ...


class Store(Protocol):
    """Objects by key below a prefix. There is no way to overwrite one."""

    def describe(self) -> str:
        """Where this is, for people."""
        ...

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        metadata: Mapping[str, str],
        journal: UploadJournal,
        before_commit: Callable[[], None] = lambda: None,
    ) -> StoredObject:
        """Stores a stream whole or not at all. Raises KeyTaken when another writer has the key.

        `before_commit` is called when all bytes are there and none counts yet; what it raises gives them up.
        """
        ...

    def put_if_absent(self, key: str, content: bytes, *, metadata: Mapping[str, str]) -> bool:
        """Stores a small object; False when the key exists with other content, True also when it is the same."""
        ...

    def keys(self, folder: str) -> list[str]:
        """Every key below a folder. Raises rather than return an incomplete listing."""
        ...

    def read(self, key: str) -> bytes:
        """A small object, whole. Raises SnapshotNotFound, SnapshotInvalid when it has more than MOST_SMALL_BYTES."""
        ...

    def open(self, key: str, version_id: str = "") -> AbstractContextManager[Iterator[bytes]]:
        """An object as a stream of chunks. Raises SnapshotNotFound."""
        ...

    def abandon(self, key: str, upload_id: str) -> None:
        """Removes what an attempt left unfinished under a key that it alone used; no error when nothing is left."""
        ...


class Outbox(Protocol):
    """Verified snapshots on this node that the store did not take yet. Raises OSError."""

    @property
    def bounds(self) -> Bounds: ...

    def describe(self, snapshot_id: str) -> str:
        """Where a snapshot is kept."""
        ...

    def write(self, snapshot_id: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Puts data there that do not count yet. Returns their bytes and SHA-256."""
        ...

    def commit(self, snapshot_id: str, draft: Draft) -> None:
        """From here on the snapshot is kept."""
        ...

    def kept(self) -> list[Kept]:
        """The oldest first."""
        ...

    def find(self, snapshot_id: str) -> Draft | None: ...

    def open(self, snapshot_id: str) -> AbstractContextManager[Iterator[bytes]]: ...

    def remove(self, snapshot_id: str) -> None: ...

    def sweep(self) -> None:
        """Removes what crashes left."""
        ...
