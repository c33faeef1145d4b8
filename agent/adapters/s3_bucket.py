"""One bucket as the parts of the S3 store speak to it: full keys, metadata, HeadObject, and calls that are repeated.

The SDK's retries are off: a conditional call whose answer was lost is resolved by HeadObject, never by sending it
again blindly. Calls that may be repeated are, with back-off.
"""

from collections.abc import Generator, Mapping
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random
from tenacity.retry import retry_base

from agent.config import StoreConfig
from agent.errors import AwsRefused, AwsUnavailable

MOST_ATTEMPTS = 6
ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
TAKEN_CODES = frozenset({"412", "PreconditionFailed"})
CONFLICT_CODES = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
LOST_CODES = frozenset({"NoSuchUpload", "404"}) | CONFLICT_CODES


class Client(Protocol):
    """An S3 client with translated errors: AwsRefused with S3's code, AwsUnavailable."""

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]: ...

    def chunks(self, body: Any, size_bytes: int) -> Generator[bytes]: ...


class Bucket:
    """The bucket and prefix of a configuration, by way of a client."""

    def __init__(self, config: StoreConfig, client: Client, first_wait_s: float) -> None:
        self.config = config
        self.client = client
        self._first_wait_s = first_wait_s

    def full(self, key: str) -> str:
        """A key of the store as the bucket has it, below the prefix."""
        return f"{self.config.prefix.strip('/')}/{key}".lstrip("/")

    def place(self, full_key: str) -> str:
        """A full key for messages."""
        return f"s3://{self.config.bucket}/{full_key}"

    def common(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        """What every new object is created with: its metadata, and the encryption that is configured."""
        encryption = {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": self.config.kms_key_id,
            "BucketKeyEnabled": True,
        }
        return {"Metadata": dict(metadata), **(encryption if self.config.kms_key_id else {})}

    def head(self, full_key: str) -> Mapping[str, Any] | None:
        """What HeadObject tells of an object, None when there is none."""
        try:
            return self.repeat("head_object", Key=full_key, ChecksumMode="ENABLED")
        except AwsRefused as answer:
            if answer.aws_code in ABSENT_CODES:
                return None
            raise

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """One call, sent once. Raises AwsRefused, AwsUnavailable."""
        return self.client.call(operation, Bucket=self.config.bucket, **arguments)

    def repeat(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """A call that may be sent again when it did not arrive or its answer was lost."""
        return self.retrying(retry_if_exception(is_worth_repeating))(self.call, operation, **arguments)

    def retrying(self, retry: retry_base) -> Retrying:
        """Tries with back-off; the last error passes through."""
        return Retrying(
            retry=retry,
            wait=wait_exponential(multiplier=self._first_wait_s, max=8.0) + wait_random(0, 5 * self._first_wait_s),
            stop=stop_after_attempt(MOST_ATTEMPTS),
            reraise=True,
        )


def field(answer: Mapping[str, Any], name: str) -> Any:
    """A field that S3 always answers with. Raises AwsUnavailable: what answers without is not S3."""
    if name not in answer:
        raise AwsUnavailable(
            f"the answer to an S3 call has no {name}", hint="what is at store.endpoint_url, or in between? a proxy?"
        )
    return answer[name]


def is_worth_repeating(error: BaseException) -> bool:
    """Whether the same call may work a little later."""
    return isinstance(error, AwsUnavailable) or (isinstance(error, AwsRefused) and error.aws_code in CONFLICT_CODES)
