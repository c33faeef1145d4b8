"""The one client factory for AWS: the only importer of boto3 in the agent, and only when a client is made."""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from agent import __version__, trace
from agent.errors import AwsCredentialsUnfit, AwsRefused, AwsUnavailable

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
SERVER_ERROR = 500
TRANSIENT_CODES = frozenset({
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "TooManyRequests", "429",
})  # fmt: skip
CREDENTIAL_HINTS = {
    "ExpiredToken": "the node's credentials expired: is its instance role still there, the metadata service reachable?",
    "InvalidToken": "the node's credentials are not valid: look at the instance role and at AWS_* of the service",
    "RequestTimeTooSkewed": "this node's clock is wrong: `timedatectl`, `chronyc tracking`",
    "RequestExpired": "this node's clock is wrong: `timedatectl`, `chronyc tracking`",
}
ROLE_HINT = "check the node's role and the bucket's policy"
REGION_HINT = "the bucket is in another region: set store.region to it"
HINTS = {
    **dict.fromkeys(("AccessDenied", "403", "Forbidden", "AllAccessDisabled"), ROLE_HINT),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), f"{ROLE_HINT}, and AWS_* of the service"),
    **dict.fromkeys(
        ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"), REGION_HINT
    ),
    "NoSuchBucket": "there is no such bucket: check store.bucket, store.region and store.endpoint_url",
    **dict.fromkeys(
        ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"),
        "something between this node and the bucket alters data: check proxies, and this node's memory",
    ),
}


class AwsClient:
    """A service's client that is made on the first call, with the SDK's errors translated into ours.

    The user agent carries the trace, so that CloudTrail finds it too. `own_retries` turns the SDK's retries
    off, for conditional calls that must not be repeated blindly.
    """

    def __init__(
        self, service: str, *, region: str = "", endpoint_url: str = "", own_retries: bool = False,
        read_timeout_s: int = READ_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self._service = service
        self._region = region
        self._endpoint_url = endpoint_url
        self._own_retries = own_retries
        self._read_timeout_s = read_timeout_s
        self._made: Any = None

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """One call. Raises AwsRefused, AwsUnavailable."""
        with _translated(f"{operation} {_subject(arguments)}"):
            self._made = self._made or self._make()
            answer: Mapping[str, Any] = getattr(self._made, operation)(**arguments)
        return answer

    def chunks(self, body: Any, size_bytes: int) -> Generator[bytes]:
        """A streaming body in chunks. Raises AwsUnavailable when the stream breaks."""
        with contextlib.closing(body), _translated("reading the stream"):
            yield from body.iter_chunks(size_bytes)

    def _make(self) -> Any:
        import boto3
        from botocore.config import Config

        retries = {"total_max_attempts": 1} if self._own_retries else {"mode": "standard", "max_attempts": 8}
        settings = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._read_timeout_s,
            retries=retries,
            user_agent_extra=f"etcd-agent/{__version__} trace/{trace.current_trace_id() or 'none'}",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if self._endpoint_url else {},
        )
        return boto3.client(
            self._service,
            region_name=self._region or None,
            endpoint_url=self._endpoint_url or None,
            config=settings,
        )


def _subject(arguments: Mapping[str, Any]) -> str:
    names = [str(arguments[name]) for name in ("Bucket", "Key", "Prefix") if arguments.get(name)]
    return f"on {'/'.join(names)}" if names else ""


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise _answered(what, error) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError):
        raise AwsCredentialsUnfit(
            f"{what}: there are no AWS credentials",
            aws_code="NoCredentials",
            hint="the node needs an instance role, and a way to the instance metadata service",
        ) from None
    except RecursionError:  # botocore asks where a bucket has moved, and asks anew when the answer to that is the same
        raise AwsRefused(
            f"{what}: it is redirected without end", aws_code="PermanentRedirect", hint=REGION_HINT
        ) from None
    except exceptions.NoRegionError:
        raise AwsRefused(f"{what}: no AWS region is set", aws_code="NoRegion", hint="set store.region") from None
    except exceptions.SSLError as error:
        raise AwsUnavailable(
            f"{what}: {error}",
            hint="is the service's certificate trusted here? behind a proxy with its own CA: AWS_CA_BUNDLE",
        ) from None
    except exceptions.BotoCoreError as error:
        raise AwsUnavailable(f"{what}: {error}", hint="is the service reachable from this node?") from None


def _answered(what: str, error: Any) -> AwsRefused | AwsUnavailable:
    """What an answer that is an error means. HeadObject has no body, so its code is the HTTP status."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"{what}: {error}"
    if code in TRANSIENT_CODES or status >= SERVER_ERROR:
        return AwsUnavailable(message, hint="the service is overloaded or away; a later try may work")
    if code in CREDENTIAL_HINTS:
        return AwsCredentialsUnfit(message, aws_code=code, hint=CREDENTIAL_HINTS[code])
    return AwsRefused(message, aws_code=code, hint=HINTS.get(code, "check the store.* keys of the config"))
