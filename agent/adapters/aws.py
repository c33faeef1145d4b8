"""The one client factory for AWS: the only importer of boto3 in the agent, and only when a client is made."""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from agent import __version__, trace
from agent.errors import AwsRefused, AwsUnavailable

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
DENIED_CODES = frozenset({"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
TRANSIENT_CODES = frozenset(
    {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "500", "502", "503", "504"}
)


class AwsClient:
    """A service's client that is made on the first call, with the SDK's errors translated into ours.

    The user agent carries the trace, so that CloudTrail finds it too. `own_retries` turns the SDK's retries
    off, for conditional calls that must not be repeated blindly.
    """

    def __init__(self, service: str, *, region: str = "", endpoint_url: str = "", own_retries: bool = False) -> None:
        self._service = service
        self._region = region
        self._endpoint_url = endpoint_url
        self._own_retries = own_retries
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
            read_timeout=READ_TIMEOUT_S,
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
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in TRANSIENT_CODES:
            raise AwsUnavailable(
                f"{what}: {error}", hint="the service is overloaded or away; a later try may work"
            ) from None
        hint = (
            "check the node's role and the bucket's policy"
            if code in DENIED_CODES
            else "check the store.* keys of the config"
        )
        raise AwsRefused(f"{what}: {error}", aws_code=code, hint=hint) from None
    except NoCredentialsError:
        raise AwsRefused(
            f"{what}: there are no AWS credentials", aws_code="NoCredentials", hint="the node needs an instance role"
        ) from None
    except NoRegionError:
        raise AwsRefused(f"{what}: no AWS region is set", aws_code="NoRegion", hint="set store.region") from None
    except BotoCoreError as error:
        raise AwsUnavailable(f"{what}: {error}", hint="is the service reachable from this node?") from None
