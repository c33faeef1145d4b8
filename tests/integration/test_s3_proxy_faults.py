"""The S3 store on a real server behind a proxy that refuses, loses, stalls and alters: the error, and what is left."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from agent.adapters.aws import AwsClient
from agent.adapters.s3 import S3Store
from agent.config import StoreConfig
from agent.domain.multipart import PART_BYTES
from agent.errors import AgentError, AwsCredentialsUnfit, AwsRefused, AwsUnavailable, KeyTaken, StoreError
from agent.operations import leftovers
from agent.operations.leftovers import JOURNAL_NAME, Journal
from agent.ports import StoredObject
from tests.integration.s3_proxy import Fault, Proxy, black_hole
from tests.integration.stores import start_moto
from tests.sandbox import s3_server
from tests.sandbox.certificates import Authority
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import S3Server
from tests.setup import debian

pytestmark = pytest.mark.integration
METADATA = {"trace-id": "1" * 32, "op-id": "snapshot-1", "cluster": "prod"}
KEY = "hourly/data/prod/20260131T120000Z-01234567-89abcdef.db.zst"
MANIFEST = "hourly/manifest/prod/20260131T120000Z-01234567.json"
CONTENT = os.urandom(PART_BYTES + 70_000)
CLOCK_HINT, REGION_HINT, ROLE_HINT = "clock", "region", "role"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """versitygw where it was built, since it really checks what it is sent; else moto."""
    folder = tmp_path_factory.mktemp("s3")
    with Processes(folder / "logs") as processes:
        built = (debian.cache() / "tools/versitygw").exists()
        yield s3_server.start(processes, folder) if built else start_moto(processes)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


class Behind:
    """A store whose every call goes by the proxy, which tests give faults."""

    def __init__(self, server: S3Server, proxy: Proxy, folder: Path) -> None:
        self.server, self.proxy, self.folder = server, proxy, folder
        self.prefix = f"run-{secrets.token_hex(6)}"
        self._clients: dict[str, AwsClient] = {}
        (folder / "work/snapshot-1/1").mkdir(parents=True)

    def store(self, url: str = "", bucket: str = "") -> S3Store:
        config = StoreConfig(
            kind="s3", bucket=bucket or self.server.bucket, prefix=self.prefix, endpoint_url=url or self.proxy.url
        )
        client = self._clients.setdefault(
            config.endpoint_url,
            AwsClient("s3", region="us-east-1", endpoint_url=config.endpoint_url, own_retries=True, read_timeout_s=1),
        )
        return S3Store(config, client=client, state_folder=self.folder / "work", cluster="prod", first_wait_s=0.001)

    def forget_clients(self) -> None:
        """The next store makes one anew, with what the environment says then."""
        self._clients.clear()

    @property
    def journal(self) -> Path:
        return self.folder / "work/snapshot-1/1" / JOURNAL_NAME

    def put(self, store: S3Store | None = None) -> StoredObject:
        chunks = (CONTENT[start : start + 700_001] for start in range(0, len(CONTENT), 700_001))
        return (store or self.store()).put(KEY, chunks, metadata=METADATA, journal=Journal(self.journal.parent))

    def objects(self) -> list[str]:
        listed = self.server.client().list_objects_v2(Bucket=self.server.bucket, Prefix=f"{self.prefix}/hourly/")
        return [entry["Key"].removeprefix(f"{self.prefix}/") for entry in listed.get("Contents", ())]

    def unfinished(self) -> list[str]:
        answer = self.server.client().list_multipart_uploads(Bucket=self.server.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def nothing_is_left_after_the_next_start(self) -> bool:
        self.proxy.faults.clear()
        leftovers.abandon_uploads(self.folder / "work", self.folder / "work/snapshot-1/2", self.store())
        return self.objects() == [] and self.unfinished() == [] and not self.journal.exists()


@pytest.fixture
def behind(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with Proxy(server.endpoint_url) as proxy:
        made = Behind(server, proxy, tmp_path)
        made.store().put_if_absent("coordination/prod/first", b"probes are done", metadata=METADATA)
        proxy.calls.clear()
        yield made


UPLOAD_CALLS = ["create", "part", "complete", "head"]
REFUSALS: dict[str, tuple[tuple[int, str], type[AgentError], str]] = {
    "denied": ((403, "AccessDenied"), AwsRefused, ROLE_HINT),
    "skewed": ((403, "RequestTimeTooSkewed"), AwsCredentialsUnfit, CLOCK_HINT),
    "expired": ((400, "ExpiredToken"), AwsCredentialsUnfit, "expired"),
    "no bucket": ((404, "NoSuchBucket"), AgentError, ""),
    "moved": ((301, "PermanentRedirect"), AwsRefused, REGION_HINT),
    "elsewhere": ((400, "AuthorizationHeaderMalformed"), AwsRefused, REGION_HINT),
    "throttled": ((503, "SlowDown"), AwsUnavailable, "later"),
    "broken": ((500, "InternalError"), AwsUnavailable, "later"),
}


@pytest.mark.parametrize("call", UPLOAD_CALLS)
@pytest.mark.parametrize("refusal", ["denied", "skewed", "moved", "throttled"])
def test_an_upload_that_is_refused_leaves_no_upload_and_says_why(behind: Behind, call: str, refusal: str) -> None:
    reply, error, hint = REFUSALS[refusal]
    behind.proxy.faults.append(Fault(call, reply=reply))
    # HeadObject's answer has no body, so no code but its status.
    with pytest.raises(AgentError if call == "head" else error) as caught:
        behind.put()
    assert ("" if call == "head" else hint) in caught.value.hint
    assert caught.value.hint
    behind.proxy.faults.clear()
    leftovers.abandon_uploads(behind.folder / "work", behind.folder / "work/snapshot-1/2", behind.store())
    assert behind.unfinished() == []
    assert MANIFEST not in behind.objects()


@pytest.mark.parametrize("call", UPLOAD_CALLS)
@pytest.mark.parametrize(
    "fault",
    [
        {"reply": (503, "SlowDown"), "times": 2}, {"reply": (500, "InternalError"), "times": 2},
        {"loses": True, "times": 2}, {"resets": True, "times": 2}, {"stalls": True, "times": 1},
        {"reply": (409, "OperationAborted"), "times": 1},
    ],
    ids=["throttled", "broken", "answers lost", "reset", "stalled", "conflict"],
)  # fmt: skip
def test_what_goes_by_is_waited_out_and_ends_in_one_object(behind: Behind, call: str, fault: dict[str, object]) -> None:
    if call == "complete" and "OperationAborted" in str(fault):
        pytest.skip("a conflict at the completion asks for a fresh key; the next test has it")
    behind.proxy.faults.append(Fault(call, **fault))  # type: ignore[arg-type]
    assert behind.put().size_bytes == len(CONTENT)
    assert behind.objects() == [KEY]
    assert behind.unfinished() == []
    assert not behind.journal.exists()


@pytest.mark.parametrize("fault", [{"loses": True}, {"resets": True}, {"stalls": True}], ids=str)
@pytest.mark.parametrize("call", ["create", "part"])
def test_what_never_answers_is_given_up(behind: Behind, call: str, fault: dict[str, bool]) -> None:
    behind.proxy.faults.append(Fault(call, **fault))  # type: ignore[arg-type]
    with pytest.raises(AwsUnavailable) as caught:
        behind.put()
    assert "reachable" in caught.value.hint
    assert behind.nothing_is_left_after_the_next_start()


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
@pytest.mark.parametrize("times", [2, 100])
def test_a_completion_that_answers_200_and_then_an_error_is_none(behind: Behind, code: str, times: int) -> None:
    """S3 sends the status before it knows: what counts is the body."""
    behind.proxy.faults.append(Fault("complete", reply=(200, code), times=times))
    if times == 2:
        behind.put()
        assert behind.objects() == [KEY]
        return
    with pytest.raises(AwsUnavailable, match="can not be completed"):
        behind.put()
    assert behind.nothing_is_left_after_the_next_start()


def test_a_completion_whose_answers_are_all_lost_is_found_done(behind: Behind) -> None:
    behind.proxy.faults.append(Fault("complete", loses=True))
    behind.put()
    assert (behind.objects(), behind.proxy.calls.count("complete")) == ([KEY], 1)


def test_another_writer_is_faster_at_the_last_moment(behind: Behind) -> None:
    def another(call: str) -> None:
        if call == "complete":
            behind.server.client().put_object(
                Bucket=behind.server.bucket, Key=f"{behind.prefix}/{KEY}", Body=b"another's"
            )

    behind.proxy.before = another
    with pytest.raises(KeyTaken):
        behind.put()
    assert behind.unfinished() == []
    assert behind.store().read(KEY) == b"another's"


ALTERED = {
    "one byte": lambda body: body[:1000] + bytes([body[1000] ^ 1]) + body[1001:],
    "two blocks changed places": lambda body: body[4096:8192] + body[:4096] + body[8192:],
    "bytes dropped": lambda body: body[:-3],
    "bytes added": lambda body: body + b"\n",
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_part_that_is_altered_on_its_way_is_refused_by_its_checksum(
    server: S3Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By TLS, as to AWS: there the signature does not cover the body, so that the checksum is all there is."""
    if not server.proves_integrity:
        pytest.skip(
            "versitygw is not in the cache, and moto checks no sums; `make tools` builds it where there is a Go"
        )
    certificate = authority.issue("proxy", "127.0.0.1")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.ca_cert))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with Proxy(server.endpoint_url, certificate) as proxy:
        behind = Behind(server, proxy, tmp_path)
        assert behind.put().stored == "passed"
        behind.prefix += "-altered"
        behind.store().put_if_absent("coordination/prod/first", b"probes are done", metadata=METADATA)
        proxy.faults.append(Fault("part", alters=ALTERED[how], after=1, times=1))
        with pytest.raises(AgentError) as caught:
            behind.put()
        assert isinstance(caught.value, AwsRefused | StoreError), caught.value
        assert "alters data" in caught.value.hint
        assert behind.nothing_is_left_after_the_next_start()


@pytest.mark.parametrize("call", ["manifest", "get"])
@pytest.mark.parametrize("fault", [{"loses": True}, {"resets": True}, {"reply": (503, "SlowDown")}], ids=str)
def test_a_manifest_whose_call_goes_wrong_for_a_while_is_written_once(
    behind: Behind, call: str, fault: dict[str, object]
) -> None:
    behind.proxy.faults.append(Fault(call, times=2, **fault))  # type: ignore[arg-type]
    assert behind.store().put_if_absent(MANIFEST, b"{}", metadata=METADATA)
    assert behind.objects() == [MANIFEST]


@pytest.mark.parametrize("call", ["manifest", "get", "list"])
@pytest.mark.parametrize("refusal", ["denied", "expired", "no bucket", "elsewhere", "broken"])
def test_reading_and_writing_what_is_small_says_why_not(behind: Behind, call: str, refusal: str) -> None:
    reply, error, hint = REFUSALS[refusal]
    behind.proxy.faults.append(Fault(call, reply=reply))
    with pytest.raises(error) as caught:
        use(behind.store(), call)
    assert hint in caught.value.hint
    assert MANIFEST in behind.objects() or call != "get"


def use(store: S3Store, call: str) -> None:
    if call == "list":
        store.keys("hourly/")
    else:
        store.put_if_absent(MANIFEST, b"{}", metadata=METADATA)


def test_an_answer_that_is_none_of_s3s_is_told(behind: Behind) -> None:
    """A captive portal, a proxy's own page: 200 and nothing that S3 would say."""
    for call in ("create", "part"):
        behind.proxy.faults[:] = [Fault(call, reply=(200, ""))]
        with pytest.raises(AwsUnavailable, match=r"UploadId|ETag") as caught:
            behind.put()
        assert "proxy" in caught.value.hint
    assert behind.nothing_is_left_after_the_next_start()


def test_no_credentials_at_all_may_be_there_later(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which remembers those of the tests before
    behind.forget_clients()
    monkeypatch.setenv("HOME", str(behind.folder))
    with pytest.raises(AwsCredentialsUnfit, match="no AWS credentials") as caught:
        behind.store().keys("hourly/")
    assert caught.value.retryable
    assert "role" in caught.value.hint


def test_wrong_credentials_are_refused_with_where_to_look(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    behind.forget_clients()
    if behind.server.name == "moto":
        pytest.skip("moto takes every key; `make tools` builds versitygw where there is a Go")
    with pytest.raises(AwsRefused) as caught:
        behind.store().keys("hourly/")
    assert "role" in caught.value.hint


def test_a_bucket_that_is_not_there_is_told(behind: Behind) -> None:
    with pytest.raises(AwsRefused, match="no-such-bucket") as caught:
        behind.store(bucket="no-such-bucket").keys("hourly/")
    assert "store.bucket" in caught.value.hint


@pytest.mark.parametrize("where", ["closed port", "no such host", "plain to TLS", "TLS to plain", "unknown authority"])
def test_a_service_that_can_not_be_reached_is_told(behind: Behind, authority: Authority, where: str) -> None:
    certificate = authority.issue("stranger", "127.0.0.1")
    with Proxy(behind.server.endpoint_url, certificate) as tls:
        url = {
            "closed port": f"http://127.0.0.1:{free_port('127.0.0.1')}",
            "no such host": "http://nobody.invalid:9000",
            "plain to TLS": tls.url.replace("https", "http"),
            "TLS to plain": behind.proxy.url.replace("http", "https"),
            "unknown authority": tls.url,
        }[where]
        with pytest.raises(AwsUnavailable) as caught:
            behind.store(url).keys("hourly/")
    assert ("AWS_CA_BUNDLE" if "TLS to" in where or "authority" in where else "reachable") in caught.value.hint


def test_a_service_that_takes_connections_and_says_nothing_is_told(behind: Behind) -> None:
    with black_hole() as port, pytest.raises(AwsUnavailable, match=r"(?i)timed? ?out") as caught:
        behind.store(f"http://127.0.0.1:{port}").keys("hourly/")
    assert "reachable" in caught.value.hint
