"""A place for tests of the SSM stand-in: a server, two machines, a clock that stands still, and the real SDK."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.sandbox.aws_server import AwsServer
from tests.sandbox.clock import Clock
from tests.sandbox.ssm import Ssm
from tests.sandbox.ssm_delivery import Machine

NAME, TRACE, SPAN = "EtcdAgent", "66f1" * 8, "1234567890abcdef"
FIRST, SECOND = (f"i-{number:017x}" for number in (1, 2))
UNKNOWN = "i-0000000000000dead"
DOCUMENT = r"""
schemaVersion: "2.2"
parameters:
  traceId: {type: String, allowedPattern: "^[0-9a-f]{32}$"}
  parentSpanId: {type: String, default: "", interpolationType: ENV_VAR}
  program: {type: String, interpolationType: ENV_VAR, default: "true"}
mainSteps:
  - action: aws:runShellScript
    name: submit
    inputs:
      timeoutSeconds: "100"
      runCommand:
        - export TRACE_ID='{{ traceId }}'
        - if [ -z "${SSM_program+x}" ]; then export SSM_program="{{ program }}"; fi
        - eval "$SSM_program"
"""


@dataclass
class Place:
    """A server whose clock stands still unless a test moves it, two machines, a client."""

    ssm: Ssm
    clock: Clock
    server: AwsServer
    client: Any
    folder: Path

    def log_lines(self) -> list[dict[str, Any]]:
        """What the stand-in logged."""
        return [json.loads(line) for line in (self.folder / "ssm.jsonl").read_text().splitlines()]

    def send(self, program: str = "true", *ids: str, **more: Any) -> str:
        """Sends the document to the machines (the first one by default); the command's id."""
        arguments = {"DocumentName": NAME, "InstanceIds": list(ids) or [FIRST], **more}
        parameters = {"traceId": [TRACE], "program": [program], **more.get("Parameters", {})}
        sent = self.client.send_command(**{**arguments, "Parameters": parameters})["Command"]
        self.clock.advance(1)
        return str(sent["CommandId"])

    def told(self, command_id: str, instance_id: str = FIRST) -> dict[str, Any]:
        """The invocation as it is now."""
        answer = self.client.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
        return dict(answer)

    def until(self, command_id: str, *statuses: str, instance_id: str = FIRST) -> dict[str, Any]:
        """The invocation once it has one of the statuses; the final ones when none is named."""
        wanted = statuses or ("Success", "Failed", "Cancelled", "TimedOut")
        wait_for(lambda: self.told(command_id, instance_id)["Status"] in wanted, f"{command_id} to be {wanted}")
        return self.told(command_id, instance_id)

    def ran(self, program: str) -> dict[str, Any]:
        """The invocation of a program that was sent and ended."""
        return self.until(self.send(program))


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Polls until it holds; a test that waits for ever fails instead."""
    ends_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends_at, f"waited in vain for {what}"
        time.sleep(0.02)


def client_of(server: AwsServer, attempts: int = 1) -> Any:
    """A client that leaves every check to the server."""
    return boto3.client(
        "ssm", endpoint_url=server.endpoint_url, region_name="us-east-1", aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, parameter_validation=False),
    )  # fmt: skip


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Place]:
    """The place, with everything gone after the block."""
    clock = Clock(factor=0)
    machines = [Machine(FIRST, {"WHO": "first"}), Machine(SECOND, {"WHO": "second"})]
    ssm = Ssm(folder / "ssm", machines, documents={NAME: DOCUMENT}, clock=clock, log_file=folder / "ssm.jsonl")
    with AwsServer(ssm=ssm) as server:
        yield Place(ssm, clock, server, client_of(server), folder)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pids_in(file: Path, count: int) -> list[int]:
    """The process ids that a script wrote, once all are there."""
    wait_for(lambda: file.exists() and len(file.read_text().split()) >= count, f"{count} ids in {file.name}")
    return [int(pid) for pid in file.read_text().split()]
