"""One multipart upload with a condition and a checksum per part: s3transfer can not send `If-None-Match`."""

import contextvars
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tenacity import retry_if_exception, retry_if_result

from agent.adapters.s3_bucket import LOST_CODES, TAKEN_CODES, Bucket, field, is_worth_repeating
from agent.domain.multipart import Part, Sums
from agent.errors import AgentError, AwsRefused, AwsUnavailable, KeyTaken

PARTS_AT_ONCE = 2


class Upload:
    """One under a key that nobody else uses: what the store confirmed of its parts, and their sums.

    `creations` tells how many times the store was asked for it: each may have made one. `is_open` stays true where the
    object was found to be there, by an earlier upload of the same bytes or by this one whose answer was lost.
    """

    def __init__(self, bucket: Bucket, full_key: str, *, op_id: str, capabilities: Mapping[str, bool]) -> None:
        self._bucket = bucket
        self._full_key = full_key
        self._op_id = op_id
        self._can = capabilities
        self._parts: list[dict[str, Any]] = []
        self.sums = Sums()
        self.upload_id = ""
        self.creations = 0
        self.is_open = True

    def create(self, metadata: Mapping[str, str]) -> None:
        """Asks for it. Raises AwsRefused, AwsUnavailable."""
        again = self._bucket.retrying(retry_if_exception(is_worth_repeating))
        self.upload_id = str(field(again(self._create_once, metadata), "UploadId"))

    def send(self, chunks: Iterable[bytes]) -> None:
        """Sends the parts, two at a time, while the next one is made; one that is sent again counts once, the last one.

        When it raises, no part is on its way any more: what is aborted then stays aborted.
        """
        on_the_way: deque[Future[dict[str, Any]]] = deque()
        with ThreadPoolExecutor(PARTS_AT_ONCE, "part") as pool:
            for part in self.sums.cut(chunks):
                if len(on_the_way) == PARTS_AT_ONCE:
                    self._parts.append(on_the_way.popleft().result())
                # Threads inherit no context: each gets a copy, so that its log lines carry the trace.
                on_the_way.append(pool.submit(contextvars.copy_context().run, self._send_part, part))
            self._parts += [sent.result() for sent in on_the_way]

    def complete(self) -> str:
        """The object's version. Sent again only where nothing lies under the key yet.

        Raises KeyTaken, AwsRefused, AwsUnavailable.
        """
        again = self._bucket.retrying(retry_if_result(lambda version_id: version_id is None))
        again.retry_error_callback = lambda state: None
        version_id = again(self._complete_once)
        if version_id is None:
            raise AwsUnavailable(f"the upload to {self._place} can not be completed", hint="a later try may work")
        return str(version_id)

    @property
    def _place(self) -> str:
        return self._bucket.place(self._full_key)

    def _send_part(self, part: Part) -> dict[str, Any]:
        answer = self._bucket.repeat(
            "upload_part", Key=self._full_key, UploadId=self.upload_id, PartNumber=part.number, Body=part.content,
            ChecksumSHA256=part.checksum, ChecksumAlgorithm="SHA256",
        )  # fmt: skip
        return {"PartNumber": part.number, "ETag": field(answer, "ETag"), "ChecksumSHA256": part.checksum}

    def _create_once(self, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        self.creations += 1
        return self._bucket.call(
            "create_multipart_upload", Key=self._full_key, ChecksumAlgorithm="SHA256", **self._bucket.common(metadata)
        )

    def _complete_once(self) -> str | None:
        condition = {"IfNoneMatch": "*"} if self._can["conditions"] else {}
        try:
            answer = self._bucket.call(
                "complete_multipart_upload", Key=self._full_key, UploadId=self.upload_id,
                MpuObjectSize=self.sums.size_bytes, MultipartUpload={"Parts": self._parts}, **condition,
            )  # fmt: skip
        except (AwsRefused, AwsUnavailable) as error:
            if isinstance(error, AwsRefused) and error.aws_code not in TAKEN_CODES | LOST_CODES:
                raise
            return self._resolve(error)
        self.is_open = False
        return str(answer.get("VersionId", ""))

    def _resolve(self, error: AgentError) -> str | None:
        """Whether a completion that was refused or whose answer was lost is nevertheless ours; None: try again."""
        head = self._bucket.head(self._full_key)
        if head is None:
            if isinstance(error, AwsUnavailable):
                return None
            raise KeyTaken(f"the upload to {self._place} is gone: {error}") from error
        ours = (
            head.get("Metadata", {}).get("op-id") == self._op_id
            and field(head, "ContentLength") == self.sums.size_bytes
        )
        echoed = head.get("ChecksumSHA256") if self._can["checksums"] else None
        if not ours or echoed not in (None, self.sums.composite_sha256):
            raise KeyTaken(f"{self._place} holds another object") from error
        return str(head.get("VersionId", ""))
