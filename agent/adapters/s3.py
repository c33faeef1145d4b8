"""The S3 store: own multipart upload with a condition, a checksum per part, and a comparison before it counts."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tenacity import retry_if_exception

from agent.adapters.files import first_bytes
from agent.adapters.s3_bucket import ABSENT_CODES, LOST_CODES, TAKEN_CODES, Bucket, Client, field, is_worth_repeating
from agent.adapters.s3_probe import Probe
from agent.adapters.s3_upload import Upload
from agent.config import StoreConfig
from agent.domain.multipart import Sums, as_base64
from agent.errors import AwsRefused, AwsUnavailable, SnapshotInvalid, SnapshotNotFound, StoreError
from agent.ports import MOST_SMALL_BYTES, StoredObject, UploadJournal

CHUNK_BYTES = 1024 * 1024
ALTERED_HINT = "something between this node and the bucket alters data: check proxies and the store itself"


class S3Store:
    """Objects below `s3://bucket/prefix/`. The client makes its connection on first use, so boto3 loads only then."""

    def __init__(
        self, config: StoreConfig, *, client: Client, state_folder: Path, cluster: str, first_wait_s: float = 0.2
    ) -> None:
        self._bucket = Bucket(config, client, first_wait_s)
        self._probe = Probe(self._bucket, state_folder, f"coordination/{cluster}")

    def describe(self) -> str:
        """The bucket and prefix."""
        return self._bucket.place(self._bucket.config.prefix).rstrip("/")

    def put(
        self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str], journal: UploadJournal,
        before_commit: Callable[[], None] = lambda: None,
    ) -> StoredObject:  # fmt: skip
        """Uploads a stream in parts of 5 MiB and completes it only when every part is confirmed.

        Raises KeyTaken, AwsUnavailable, StoreError; the upload is aborted then.
        """
        can, full_key = self._probe.capabilities(), self._bucket.full(key)
        upload = Upload(self._bucket, full_key, op_id=metadata["op-id"], capabilities=can)
        journal.begin(key, "")
        try:
            upload.create(metadata)
            journal.begin(key, upload.upload_id)
            upload.send(chunks)
            before_commit()
            version_id = upload.complete()
            stored = self._confirm(full_key, upload.sums, can)
        except BaseException:
            self._clean_up(key, upload, journal)
            raise
        if upload.creations > 1 or upload.is_open:  # an answer was lost, so there may be an upload under the key
            upload.upload_id = upload.upload_id if upload.is_open else ""
            self._clean_up(key, upload, journal)
        else:
            journal.clear()
        return StoredObject(key, upload.sums.size_bytes, upload.sums.sha256, version_id, stored)

    def put_if_absent(self, key: str, content: bytes, *, metadata: Mapping[str, str]) -> bool:
        """Puts a small object under the condition that the key is free; a lost answer is resolved by reading.

        Raises StoreError where nothing lies there afterwards.
        """
        full_key = self._bucket.full(key)
        conditional = self._probe.capabilities()["conditions"]
        condition = {"IfNoneMatch": "*"} if conditional else {}
        if not conditional and self._bucket.head(full_key) is not None:
            return self._holds(key, content)
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": as_base64(hashlib.sha256(content).digest())}
        try:
            self._bucket.repeat(
                "put_object", Key=full_key, Body=content, **checksum, **condition, **self._bucket.common(metadata)
            )
        except AwsRefused as answer:
            if answer.aws_code not in TAKEN_CODES:
                raise
        return self._holds(key, content)

    def keys(self, folder: str) -> list[str]:
        """Every key below a folder, all pages; raises rather than return an incomplete listing."""
        base = self._bucket.full("")
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = self._bucket.repeat("list_objects_v2", Prefix=self._bucket.full(folder), **token)
            found += [entry["Key"].removeprefix(base) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return sorted(found)
            token = {"ContinuationToken": field(page, "NextContinuationToken")}

    def read(self, key: str) -> bytes:
        """A small object, whole. Raises SnapshotNotFound, SnapshotInvalid when it is not small."""
        content = self._beginning(key, MOST_SMALL_BYTES + 1)
        if len(content) > MOST_SMALL_BYTES:
            raise SnapshotInvalid(f"{self.describe()}/{key} has more than {MOST_SMALL_BYTES:,} bytes: no manifest has")
        return content

    @contextlib.contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[Iterator[bytes]]:
        """An object as chunks of 1 MiB. Raises SnapshotNotFound, AwsUnavailable when the stream breaks."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            body = self._bucket.call("get_object", Key=self._bucket.full(key), **version)["Body"]
        except AwsRefused as answer:
            if answer.aws_code in ABSENT_CODES:
                raise SnapshotNotFound(f"{self.describe()}/{key} does not exist") from None
            raise
        with contextlib.closing(self._bucket.client.chunks(body, CHUNK_BYTES)) as chunks:
            yield chunks

    def abandon(self, key: str, upload_id: str) -> None:
        """Aborts every upload under the key; what is completed stays, since a node can not delete.

        The id is not needed: an attempt can be killed before it knew one. It helps where uploads may not be listed.
        """
        self._abort(key, upload_id, self._bucket.repeat)

    def _abort(self, key: str, upload_id: str, call: Callable[..., Mapping[str, Any]]) -> None:
        full_key = self._bucket.full(key)
        if upload_id:
            self._abort_one(full_key, upload_id, call)
        try:
            listed = call("list_multipart_uploads", Prefix=full_key).get("Uploads", ())
        except AwsRefused:
            if upload_id:
                return
            raise
        for upload in listed:
            if upload["Key"] == full_key and upload["UploadId"] != upload_id:
                self._abort_one(full_key, upload["UploadId"], call)

    def _abort_one(self, full_key: str, upload_id: str, call: Callable[..., Mapping[str, Any]]) -> None:
        try:
            call("abort_multipart_upload", Key=full_key, UploadId=upload_id)
        except AwsRefused as answer:
            if answer.aws_code not in LOST_CODES:
                raise

    def _clean_up(self, key: str, upload: Upload, journal: UploadJournal) -> None:
        """One try alone, since the store may be away; the journal stays then, and the next attempt aborts it."""
        with contextlib.suppress(AwsRefused, AwsUnavailable):
            if upload.creations:
                self._abort(key, upload.upload_id, self._bucket.call)
            journal.clear()

    def _holds(self, key: str, content: bytes) -> bool:
        try:
            return self._beginning(key, len(content) + 1) == content
        except SnapshotNotFound:
            raise StoreError(f"{self.describe()}/{key} is not there after it was written", hint=ALTERED_HINT) from None

    def _beginning(self, key: str, most_bytes: int) -> bytes:
        for attempt in self._bucket.retrying(retry_if_exception(is_worth_repeating)):
            with attempt, self.open(key) as chunks:
                return first_bytes(chunks, most_bytes)
        raise AssertionError("tenacity re-raises the last error")

    def _confirm(self, full_key: str, sums: Sums, can: Mapping[str, bool]) -> Any:
        head, place = self._bucket.head(full_key), self._bucket.place(full_key)
        if head is None or field(head, "ContentLength") != sums.size_bytes:
            found = "nothing" if head is None else f"{head['ContentLength']} bytes"
            raise StoreError(
                f"{place} has {found} after the upload of {sums.size_bytes} bytes",
                hint=ALTERED_HINT,
            )
        if not can["checksums"]:
            return "unavailable"  # what a store echoes that takes wrong checksums proves nothing
        echoed, checksum = head.get("ChecksumSHA256"), sums.composite_sha256
        if echoed is not None and echoed != checksum:
            raise StoreError(f"{place} has the checksum {echoed}, not {checksum}", hint=ALTERED_HINT)
        return "passed" if echoed == checksum else "unavailable"
