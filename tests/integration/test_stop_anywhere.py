"""A worker is told to stop by a signal, at whatever instruction it is: no library and no handler may swallow that."""

import io
import logging
import signal
import socket
from collections.abc import Iterator

import pytest

from agent import logs
from agent.adapters.aws import AwsClient
from agent.errors import Interrupted

pytestmark = pytest.mark.integration


def stop(signal_number: int, frame: object) -> None:
    raise Interrupted("the service is stopping")


@pytest.fixture(autouse=True)
def stop_by_alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_stop_while_aws_is_awaited_is_not_taken_for_a_failure_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        port = never_answers.getsockname()[1]
        client = AwsClient("s3", region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}", own_retries=True)
        client._made = client._make()  # the alarm is for the call, not for the import
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Interrupted):
            client.call("head_object", Bucket="bucket", Key="key")


def test_a_stop_while_a_line_is_written_is_not_taken_for_trouble_with_the_log() -> None:
    class StopsWhileItIsWritten:
        def __str__(self) -> str:
            raise Interrupted("the service is stopping")

    root = logging.getLogger()
    before = list(root.handlers), root.level
    try:
        logs.configure(service="etcd-agent", version="test", stream=io.StringIO())
        with pytest.raises(Interrupted):
            logging.getLogger("agent").warning("%s", StopsWhileItIsWritten())
    finally:
        root.handlers[:], root.level = before
