"""The operations on a real S3 server behind a damaging proxy, and the same server looked at without it."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import trace
from agent.adapters.aws import AwsClient
from agent.adapters.outbox import OutboxFolder
from agent.adapters.s3 import S3Store
from agent.cli import downloading
from agent.config import StoreConfig
from agent.domain import request as requests
from agent.domain import snapshot as snapshots
from agent.domain.multipart import PART_BYTES
from agent.domain.outbox import Bounds
from agent.domain.snapshot import Backup, Verification
from agent.errors import SnapshotInvalid
from agent.operations import catalogue, compression, leftovers, outbox, snapshot, verify
from agent.operations.outbox import ShipPorts
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from tests.integration.s3_proxy import Proxy
from tests.sandbox.s3_server import S3Server
from tests.unit.fakes import FakeEtcd, FakeTool


def made_snapshot() -> bytes:
    """What does not compress: two whole parts and a short one. The tool that stands in knows it by its beginning."""
    size_bytes = 2 * PART_BYTES + 512 * 100
    pages = (b"key and value " + os.urandom(size_bytes))[:size_bytes]
    return pages + hashlib.sha256(pages).digest()


@dataclass
class Place:
    """A node with its own prefix of the bucket; everything that it does goes by the proxy."""

    folder: Path
    server: S3Server
    proxy: Proxy
    prefix: str
    taken: list[bytes] = field(default_factory=list)

    @property
    def store(self) -> S3Store:
        url = self.proxy.url
        config = StoreConfig(kind="s3", bucket=self.server.bucket, prefix=self.prefix, endpoint_url=url)
        client = AwsClient("s3", region="us-east-1", endpoint_url=url, own_retries=True, read_timeout_s=60)
        return S3Store(config, client=client, state_folder=self.folder, cluster="prod", first_wait_s=0.001)

    @property
    def outbox(self) -> OutboxFolder:
        return OutboxFolder(self.folder / "outbox", Bounds(8, 10**9))

    def snapshot(self, hour: int, content: bytes) -> dict[str, Any]:
        """Takes one of that hour. Returns the result's output; raises what the operation raises."""
        self.taken.append(content)
        job = self._job("snapshot", hour, {})
        ports = SnapshotPorts(FakeEtcd(content=content), FakeTool(), self.store, lambda folder: 10**12, self.outbox)
        with self._attempt(job):
            return snapshot.run(job, ports, Steps(lambda progress: None))

    def ship(self) -> dict[str, Any]:
        """What is kept goes into the store."""
        job = self._job("outbox", 23, {})
        with self._attempt(job):
            return outbox.run(job, ShipPorts(self.store, self.outbox), Steps(lambda progress: None))

    def verify(self, hour: int) -> dict[str, Any]:
        job = self._job("verify", hour, {"id": self.identifier(hour)})
        ports = SnapshotPorts(FakeEtcd(), FakeTool(), self.store, lambda folder: 10**12, self.outbox)
        with self._attempt(job):
            try:
                return verify.run(job, ports, Steps(lambda progress: None))
            finally:
                assert list(job.folder.iterdir()) == [], "a file was left"

    def download(self, hour: int, target: Path) -> None:
        backup = catalogue.resolve(self.store, "prod", self.identifier(hour))
        downloading.save(self.store, FakeTool(), backup, target, lambda count: None)

    def identifier(self, hour: int) -> str:
        """The id of that hour's snapshot."""
        request = self._job("snapshot", hour, {}).request
        return snapshots.snapshot_id(request.requested_at, request.op_id)

    def listed(self, *, unreadable: bool = False) -> list[Backup]:
        """What is a backup there, each good one with the very bytes that were verified; read without the proxy.

        Those that can not be read are left out where that is expected.
        """
        objects = self.objects()
        found = []
        for key in objects:
            if "/manifest/" not in key or (identifier := snapshots.id_of_manifest_key(key)) is None:
                continue
            try:
                manifest = snapshots.decode_manifest(objects[key], key)
            except SnapshotInvalid:
                assert unreadable
                continue
            found.append(backup := Backup(manifest, tuple(_records(objects, identifier))))
            if backup.is_good:
                raw = b"".join(compression.decompressed([objects[manifest.data.key]]))
                assert raw in self.taken, f"{identifier} is listed with other bytes than were verified"
                assert hashlib.sha256(raw).hexdigest() == manifest.raw_sha256, identifier
        return snapshots.newest_first(found)

    def manifest_key(self, hour: int) -> str:
        """Where that hour's manifest lies."""
        (key,) = [key for key in self.objects() if key.endswith(f"/{self.identifier(hour)}.json")]
        return key

    def forget_records(self) -> None:
        """Removes what verifications left, which no node could."""
        for key in self.objects():
            if snapshots.id_of_verification_key(key):
                self.server.client().delete_object(Bucket=self.server.bucket, Key=f"{self.prefix}/{key}")

    def objects(self) -> dict[str, bytes]:
        """All that lies below the prefix, read without the proxy."""
        client, bucket = self.server.client(), self.server.bucket
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{self.prefix}/").get("Contents", ())
        keys = [entry["Key"] for entry in listed]
        return {
            key.removeprefix(f"{self.prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    def unfinished(self) -> list[str]:
        """The uploads that are open there."""
        answer = self.server.client().list_multipart_uploads(Bucket=self.server.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def kept(self) -> list[str]:
        """The ids of what waits on the node."""
        return [one.snapshot_id for one in self.outbox.kept()]

    def _job(self, operation: str, hour: int, params: dict[str, str]) -> Job:
        request = requests.make(
            op_id=f"{operation}-{hour:04}", operation=operation, params=params, trace_id="4" * 32,
            requested_at=f"2026-01-31T{hour:02}:00:00Z",
        )  # fmt: skip
        return Job(request, 1, self.folder / "work", "prod", "node-1", "", "1.0")

    @contextlib.contextmanager
    def _attempt(self, job: Job) -> Iterator[None]:
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            with trace.bound(trace_id=job.request.trace_id, op_id=job.request.op_id):
                yield
        finally:
            leftovers.remove_attempt(job.folder)


def _records(objects: Mapping[str, bytes], identifier: str) -> Iterator[Verification]:
    for key, content in objects.items():
        if snapshots.id_of_verification_key(key) == identifier:
            yield snapshots.decode_verification(content, key)
