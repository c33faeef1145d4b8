"""The S3 store: own multipart upload with a condition, a checksum per part, and a comparison before it counts.

s3transfer can not send `If-None-Match`. The SDK's retries are off: a conditional call whose answer was lost is
resolved by HeadObject, never by sending it again blindly. Calls that may be repeated are, with back-off.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception, retry_if_result, stop_after_attempt, wait_exponential, wait_random
from tenacity.retry import retry_base

from agent.adapters import files
from agent.config import StoreConfig
from agent.domain.multipart import Sums, as_base64
from agent.errors import AgentError, AwsRefused, AwsUnavailable, KeyTaken, SnapshotNotFound, StoreError
from agent.ports import StoredObject, UploadJournal

CHUNK_BYTES = 1024 * 1024
MOST_ATTEMPTS = 6
ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
TAKEN_CODES = frozenset({"412", "PreconditionFailed"})
CONFLICT_CODES = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
LOST_CODES = frozenset({"NoSuchUpload", "404"}) | CONFLICT_CODES
# Refusals that say nothing about what a store can do: of this node, at this time.
SETUP_CODES = CONFLICT_CODES | {
    "AccessDenied", "403", "Forbidden", "NoSuchBucket", "NoCredentials", "InvalidAccessKeyId", "ExpiredToken",
    "InvalidToken", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "NoRegion",
}  # fmt: skip


class Client(Protocol):
    """An S3 client with translated errors: AwsRefused with S3's code, AwsUnavailable."""

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]: ...

    def chunks(self, body: Any, size_bytes: int) -> Generator[bytes]: ...


class _Upload:
    """One multipart upload: what the store confirmed of its parts, and their sums."""

    def __init__(self, key: str, upload_id: str) -> None:
        self.key = key
        self.upload_id = upload_id
        self.sums = Sums()
        self.parts: list[dict[str, Any]] = []


class S3Store:
    """Objects below `s3://bucket/prefix/`. The client makes its connection on first use, so boto3 loads only then."""

    def __init__(
        self, config: StoreConfig, *, client: Client, state_folder: Path, cluster: str, first_wait_s: float = 0.2
    ) -> None:
        self._config = config
        self._first_wait_s = first_wait_s
        self._client = client
        self._state_folder = state_folder
        self._probe_folder = f"coordination/{cluster}"

    def describe(self) -> str:
        """The bucket and prefix."""
        return f"s3://{self._config.bucket}/{self._config.prefix}".rstrip("/")

    def put(
        self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str], journal: UploadJournal
    ) -> StoredObject:
        """Uploads a stream in parts of 5 MiB and completes it only when every part is confirmed.

        Raises KeyTaken, AwsUnavailable, StoreError; the upload is aborted then.
        """
        can = self._capabilities()
        created = self._repeat(
            "create_multipart_upload", Key=self._full(key), ChecksumAlgorithm="SHA256", **self._common(metadata)
        )
        upload_id = created["UploadId"]
        try:
            journal.begin(key, upload_id)
            upload = _Upload(self._full(key), upload_id)
            self._send(upload, chunks)
            version_id = self._complete(upload, metadata, conditional=can["conditions"])
        except BaseException:
            with contextlib.suppress(AwsRefused, AwsUnavailable):  # the journal stays, the next attempt aborts it
                self.abandon(key, upload_id)
                journal.clear()
            raise
        stored = self._confirm(upload.key, upload.sums.size_bytes, upload.sums.composite_sha256, can)
        journal.clear()
        return StoredObject(key, upload.sums.size_bytes, upload.sums.sha256, version_id, stored)

    def put_if_absent(self, key: str, content: bytes, *, metadata: Mapping[str, str]) -> bool:
        """Puts a small object under the condition that the key is free; a lost answer is resolved by reading."""
        conditional = self._capabilities()["conditions"]
        condition = {"IfNoneMatch": "*"} if conditional else {}
        if not conditional and self._head(self._full(key)) is not None:
            return self.read(key) == content
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": as_base64(hashlib.sha256(content).digest())}
        try:
            self._repeat(
                "put_object", Key=self._full(key), Body=content, **checksum, **condition, **self._common(metadata)
            )
        except AwsRefused as answer:
            if answer.aws_code not in TAKEN_CODES:
                raise
        return self.read(key) == content

    def keys(self, folder: str) -> list[str]:
        """Every key below a folder, all pages; raises rather than return an incomplete listing."""
        base = self._full("")
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = self._repeat("list_objects_v2", Prefix=self._full(folder), **token)
            found += [entry["Key"].removeprefix(base) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return sorted(found)
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, key: str) -> bytes:
        """A small object, whole. Raises SnapshotNotFound."""
        for attempt in self._retrying(retry_if_exception(_is_worth_repeating)):
            with attempt, self.open(key) as chunks:
                return b"".join(chunks)
        raise AssertionError("tenacity re-raises the last error")

    @contextlib.contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[Iterator[bytes]]:
        """An object as chunks of 1 MiB. Raises SnapshotNotFound, AwsUnavailable when the stream breaks."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            body = self._call("get_object", Key=self._full(key), **version)["Body"]
        except AwsRefused as answer:
            if answer.aws_code in ABSENT_CODES:
                raise SnapshotNotFound(f"{self.describe()}/{key} does not exist") from None
            raise
        with contextlib.closing(self._client.chunks(body, CHUNK_BYTES)) as chunks:
            yield chunks

    def abandon(self, key: str, upload_id: str) -> None:
        """Aborts an upload; what is completed stays, since a node can not delete."""
        if not upload_id:
            return
        try:
            self._repeat("abort_multipart_upload", Key=self._full(key), UploadId=upload_id)
        except AwsRefused as answer:
            if answer.aws_code not in LOST_CODES:
                raise

    def _send(self, upload: _Upload, chunks: Iterable[bytes]) -> None:
        """Sends part after part; one that is sent again counts once, the last one."""
        for part in upload.sums.cut(chunks):
            answer = self._repeat(
                "upload_part", Key=upload.key, UploadId=upload.upload_id, PartNumber=part.number, Body=part.content,
                ChecksumSHA256=part.checksum, ChecksumAlgorithm="SHA256",
            )  # fmt: skip
            upload.parts.append({"PartNumber": part.number, "ETag": answer["ETag"], "ChecksumSHA256": part.checksum})

    def _complete(self, upload: _Upload, metadata: Mapping[str, str], *, conditional: bool) -> str:
        """The object's version. Sent again only where nothing lies under the key yet."""
        again = self._retrying(retry_if_result(lambda version_id: version_id is None))
        again.retry_error_callback = lambda state: None
        version_id = again(self._complete_once, upload, metadata, conditional=conditional)
        if version_id is None:
            raise AwsUnavailable(
                f"the upload to {self._place(upload.key)} can not be completed", hint="a later try may work"
            )
        return str(version_id)

    def _complete_once(self, upload: _Upload, metadata: Mapping[str, str], *, conditional: bool) -> str | None:
        condition = {"IfNoneMatch": "*"} if conditional else {}
        try:
            answer = self._call(
                "complete_multipart_upload", Key=upload.key, UploadId=upload.upload_id,
                MpuObjectSize=upload.sums.size_bytes, MultipartUpload={"Parts": upload.parts}, **condition,
            )  # fmt: skip
        except (AwsRefused, AwsUnavailable) as error:
            if isinstance(error, AwsRefused) and error.aws_code not in TAKEN_CODES | LOST_CODES:
                raise
            return self._resolve(upload, metadata, error)
        return str(answer.get("VersionId", ""))

    def _resolve(self, upload: _Upload, metadata: Mapping[str, str], error: AgentError) -> str | None:
        """Whether a completion that was refused or whose answer was lost is nevertheless ours; None: try again."""
        head = self._head(upload.key)
        if head is None:
            if isinstance(error, AwsUnavailable):
                return None
            raise KeyTaken(f"the upload to {self._place(upload.key)} is gone: {error}") from error
        ours = (
            head.get("Metadata", {}).get("op-id") == metadata["op-id"]
            and head["ContentLength"] == upload.sums.size_bytes
        )
        echoed = head.get("ChecksumSHA256") if self._capabilities()["checksums"] else None
        if not ours or echoed not in (None, upload.sums.composite_sha256):
            raise KeyTaken(f"{self._place(upload.key)} holds another object") from error
        return str(head.get("VersionId", ""))

    def _confirm(self, key: str, size_bytes: int, checksum: str, can: Mapping[str, bool]) -> Any:
        head = self._head(key)
        if head is None or head["ContentLength"] != size_bytes:
            found = "nothing" if head is None else f"{head['ContentLength']} bytes"
            raise StoreError(
                f"{self._place(key)} has {found} after the upload of {size_bytes} bytes",
                hint="something between this node and the bucket alters data: check proxies and the store itself",
            )
        if not can["checksums"]:
            return "unavailable"  # what a store echoes that takes wrong checksums proves nothing
        echoed = head.get("ChecksumSHA256")
        if echoed is not None and echoed != checksum:
            raise StoreError(f"{self._place(key)} has the checksum {echoed}, not {checksum}")
        return "passed" if echoed == checksum else "unavailable"

    def _head(self, full_key: str) -> Mapping[str, Any] | None:
        try:
            return self._repeat("head_object", Key=full_key, ChecksumMode="ENABLED")
        except AwsRefused as answer:
            if answer.aws_code in ABSENT_CODES:
                return None
            raise

    def _capabilities(self) -> Mapping[str, bool]:
        """What this store can do, probed once and remembered on the node."""
        location = f"{self._config.endpoint_url}|{self.describe()}"
        path = self._state_folder / f"store-{hashlib.sha256(location.encode()).hexdigest()[:16]}.json"
        with contextlib.suppress(FileNotFoundError, ValueError):
            known = json.loads(path.read_text())
            if isinstance(known, dict) and {"conditions", "checksums"} <= known.keys():
                return known
        known = self._probe()
        files.write_atomic(path, json.dumps(known).encode())
        return known

    def _probe(self) -> dict[str, bool]:
        """What is refused counts only beside the same call that is taken: a store may refuse for other reasons."""
        condition = {"IfNoneMatch": "*"}
        first, second = (self._try("probe-condition", b"probe", condition) for _ in range(2))
        conditions = second in TAKEN_CODES
        if not conditions:
            condition = {}
            first = self._try("probe-condition", b"probe", condition)
        right = first in {"", *TAKEN_CODES}
        wrong = self._try(f"probe-checksum-{secrets.token_hex(4)}", b"other bytes", condition)
        return {"conditions": conditions, "checksums": right and wrong != ""}

    def _try(self, name: str, checksummed: bytes, condition: Mapping[str, str]) -> str:
        """Sends a small object with the checksum of those bytes. Returns "" or the code of the refusal."""
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": as_base64(hashlib.sha256(checksummed).digest())}
        key = self._full(f"{self._probe_folder}/{name}")
        try:
            self._repeat("put_object", Key=key, Body=b"probe", **condition, **checksum, **self._common({}))
        except AwsRefused as answer:
            if answer.aws_code in SETUP_CODES:
                raise
            return answer.aws_code or "refused"
        return ""

    def _common(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        encryption = {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": self._config.kms_key_id,
            "BucketKeyEnabled": True,
        }
        return {"Metadata": dict(metadata), **(encryption if self._config.kms_key_id else {})}

    def _full(self, key: str) -> str:
        return f"{self._config.prefix.strip('/')}/{key}".lstrip("/")

    def _place(self, full_key: str) -> str:
        return f"s3://{self._config.bucket}/{full_key}"

    def _repeat(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        return self._retrying(retry_if_exception(_is_worth_repeating))(self._call, operation, **arguments)

    def _retrying(self, retry: retry_base) -> Retrying:
        return Retrying(
            retry=retry,
            wait=wait_exponential(multiplier=self._first_wait_s, max=8.0) + wait_random(0, 5 * self._first_wait_s),
            stop=stop_after_attempt(MOST_ATTEMPTS),
            reraise=True,
        )

    def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        return self._client.call(operation, Bucket=self._config.bucket, **arguments)


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, AwsUnavailable) or (isinstance(error, AwsRefused) and error.aws_code in CONFLICT_CODES)
