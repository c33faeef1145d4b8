"""A real snapshot, stored by the real code, and the ways by which a damaged one could count for good."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from agent.adapters.directory import DirectoryStore
from agent.adapters.etcdutl import SnapshotStatus
from agent.adapters.outbox import OutboxFolder
from agent.cli import downloading
from agent.domain import request as requests
from agent.domain import snapshot as snapshots
from agent.domain.outbox import Bounds
from agent.domain.snapshot import Backup, Manifest
from agent.errors import CommandKilled, CommandTimeout, EtcdAnswerInvalid, SnapshotInvalid
from agent.operations import catalogue, compression, inspection, snapshot, verify
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from agent.ports import SnapshotFile, SnapshotTool
from tests.damage.taking import Taken
from tests.unit.fakes import ENDPOINT, FakeEtcd

CAUGHT_BY = {
    "not whole pages": "length", "do not have the checksum at its end": "trailer",
    "the compressed stream": "decompression", "more is stored": "stored size", "unpacks to more": "raw size",
    "stored bytes have the sha256": "stored sha256", "raw bytes have the sha256": "raw sha256",
    "says that the snapshot is damaged": "tool", "ends at revision": "revision", "holds revision": "revision",
}  # fmt: skip
ENDPOINTS = (ENDPOINT, ENDPOINT.replace(".1:", ".2:"), ENDPOINT.replace(".1:", ".3:"))


class Sparing:
    """The real tool, run only for files whose trailer is right; the others it is taken to find nothing wrong with.

    So there is nothing but the agent's own checks between those and being accepted.
    """

    def __init__(self, tool: SnapshotTool, blind: SnapshotFile) -> None:
        self._tool, self._blind = tool, blind
        self.runs = 0

    def describe(self) -> str:
        return "etcdutl of the test"

    def status(self, path: Path) -> SnapshotFile:
        try:
            inspection.check_trailer(path)
        except SnapshotInvalid:
            return self._blind
        self.runs += 1
        return self._tool.status(path)


class Place:
    """A store with the one snapshot in it, and an empty one that damaged ones are offered to."""

    def __init__(self, folder: Path, taken: Taken) -> None:
        self._folder, self.raw, self.older = folder, taken.raw, taken.older
        tool = SnapshotStatus(str(taken.tools))
        path = folder / "right.db"
        path.write_bytes(taken.raw)
        self.right = tool.status(path)
        self.tool = Sparing(tool, self.right)
        self._store = DirectoryStore(folder / "store")
        self._offered = DirectoryStore(folder / "offered")
        self._take(self._store, taken.raw)
        (self.backup,) = catalogue.backups(self._store, "prod")
        self.packed = (folder / "store" / self.backup.manifest.data.key).read_bytes()
        self.packed_older = pack(taken.older)

    def created(self, content: bytes) -> str:
        """Whether `snapshot create` takes a file that became this between etcdctl and its checks; else by what not."""
        return self._caught(lambda: self._take(self._offered, content))

    def offered(self) -> list[str]:
        """What became a backup there, or waits to be one."""
        kept = list((self._folder / "outbox").iterdir()) if (self._folder / "outbox").exists() else []
        manifests = [backup.manifest.snapshot_id for backup in catalogue.backups(self._offered, "prod")]
        return manifests + [path.name for path in kept]

    def forget_offered(self) -> None:
        """Empties that store again."""
        shutil.rmtree(self._folder / "offered", ignore_errors=True)

    def verified(self) -> str:
        """Whether `snapshot verify` passes what is stored now; its record is looked at, and removed."""
        caught = self._caught(self._verify)
        (record,) = self._manifest_path.parent.glob("*.verified-*")
        assert snapshots.decode_verification(record.read_bytes(), record.name).passed == (caught == "")
        record.unlink()
        return caught

    def downloaded(self) -> str:
        """Whether `snapshot download` gives out what is stored now."""
        target = self._folder / "here" / "etcd.db"
        target.parent.mkdir(exist_ok=True)
        backup = Backup(self._manifest())
        caught = self._caught(lambda: downloading.save(self._store, self.tool, backup, target, lambda count: None))
        found = [path.name for path in target.parent.iterdir()]
        assert found == ([] if caught else ["etcd.db"]), found
        target.unlink(missing_ok=True)
        return caught

    @contextlib.contextmanager
    def stored(self, content: bytes, *, told: bool) -> Iterator[None]:
        """Other bytes under the key; `told`, the manifest has their size and checksum, so that they seem right."""
        manifest = self.backup.manifest
        if told:
            data = msgspec.structs.replace(
                manifest.data, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
            manifest = msgspec.structs.replace(manifest, data=data)
        self._put(content, manifest)
        try:
            yield
        finally:
            self._put(self.packed, self.backup.manifest)

    def _put(self, content: bytes, manifest: Manifest) -> None:
        (self._folder / "store" / manifest.data.key).write_bytes(content)
        self._manifest_path.write_bytes(snapshots.encode(manifest))

    @property
    def _manifest_path(self) -> Path:
        one = self.backup.manifest
        return self._folder / "store" / snapshots.manifest_key(one.retention_class, "prod", one.snapshot_id)

    def _manifest(self) -> Manifest:
        key = self._manifest_path.relative_to(self._folder / "store").as_posix()
        return snapshots.decode_manifest(self._manifest_path.read_bytes(), key)

    def _take(self, store: DirectoryStore, content: bytes) -> None:
        etcd = FakeEtcd(content=content, revisions=dict.fromkeys(ENDPOINTS, self.right.revision))
        job = self._job("snapshot", {})
        outbox = OutboxFolder(self._folder / "outbox", Bounds(8, 10**9))
        ports = SnapshotPorts(etcd, self.tool, store, lambda folder: 10**12, outbox)
        try:
            snapshot.run(job, ports, Steps(lambda progress: None))
        finally:
            (job.folder / "snapshot.db").unlink(missing_ok=True)

    def _verify(self) -> None:
        ports = SnapshotPorts(
            FakeEtcd(), self.tool, self._store, lambda folder: 10**12, OutboxFolder(self._folder, Bounds(8, 10**9))
        )
        job = self._job("verify", {"id": self.backup.manifest.snapshot_id})
        verify.run(job, ports, Steps(lambda progress: None))
        assert list(job.folder.iterdir()) == []

    def _job(self, operation: str, params: dict[str, str]) -> Job:
        """Always the same request, so that a store keeps nothing of one case for the next."""
        request = requests.make(
            op_id=f"{operation}-1", operation=operation, params=params, trace_id="4" * 32,
            requested_at="2026-01-31T12:00:00Z",
        )  # fmt: skip
        job = Job(request, 1, self._folder / "work", "prod", "node-1", "", "1.0")
        job.folder.mkdir(parents=True, exist_ok=True)
        return job

    def _caught(self, attempt: Callable[[], None]) -> str:
        try:
            attempt()
        except SnapshotInvalid as error:
            return next(name for text, name in CAUGHT_BY.items() if text in error.message)
        except (CommandKilled, CommandTimeout, EtcdAnswerInvalid) as error:
            return error.code
        return ""


def pack(raw: bytes) -> bytes:
    """As it would be stored."""
    return b"".join(compression.compressed([raw]))
