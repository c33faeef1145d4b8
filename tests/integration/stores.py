"""The stores that one suite runs against, and what lies in each of them, unfinished things included."""

import contextlib
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from agent.adapters.aws import AwsClient
from agent.adapters.directory import DirectoryStore
from agent.adapters.s3 import S3Store
from agent.adapters.s3_bucket import Client
from agent.config import StoreConfig
from agent.errors import AwsRefused, AwsUnavailable
from agent.ports import Store
from tests.sandbox import s3_server
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Processes, wait_until
from tests.sandbox.s3_server import S3Server
from tests.setup import debian

CLUSTER = "prod"


def start_moto(processes: Processes) -> S3Server:
    """The S3 server that every machine has; it proves no integrity."""
    port = free_port("127.0.0.1")
    program = Path(sys.executable).with_name("moto_server")
    child = processes.start("moto", [str(program), "-H", "127.0.0.1", "-p", str(port)], {"PATH": "/usr/bin:/bin"})
    server = S3Server("moto", f"http://127.0.0.1:{port}", "backups", False, child)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_until(answers, f"moto does not answer on port {port}", child=child)
    server.client().create_bucket(Bucket=server.bucket)
    return server


@contextlib.contextmanager
def running_servers(folder: Path) -> Generator[dict[str, S3Server]]:
    """moto, and versitygw where it was built, by their names; gone after the block."""
    with Processes(folder / "logs") as processes:
        found = {"moto": start_moto(processes)}
        if (debian.cache() / "tools/versitygw").exists():
            found["versitygw"] = s3_server.start(processes, folder)
        yield found


class Target(Protocol):
    """A store under test."""

    can_delete: bool

    @property
    def proves_integrity(self) -> bool: ...

    @property
    def store(self) -> Store: ...

    def unfinished(self) -> list[str]:
        """What an upload left that neither ended nor was given up."""
        ...


@dataclass
class DirectoryTarget:
    """A folder."""

    folder: Path
    can_delete: bool = True
    proves_integrity: ClassVar[bool] = True

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    def unfinished(self) -> list[str]:
        return [str(path) for path in self.folder.rglob(".*")]


class Faulty:
    """A client that does as it is told before it sends a call, or with its answer.

    The plan has a list of faults for each operation, one for each call: "" none, "away" not sent, "lost" sent but
    the answer is lost, any other word is a refusal with that code. The last one stays.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.plan: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda operation: None
        self.page_size = 1000

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        self.calls.append(operation)
        self.before(operation)
        faults = self.plan.get(operation, [""])
        fault = faults.pop(0) if len(faults) > 1 else faults[0]
        if fault == "away":
            raise AwsUnavailable(f"{operation}: away")
        if fault not in ("", "lost"):
            raise AwsRefused(f"{operation}: {fault}", aws_code=fault, hint="told to")
        if operation == "list_objects_v2":
            arguments["MaxKeys"] = self.page_size
        answer = self._client.call(operation, **arguments)
        if fault == "lost":
            raise AwsUnavailable(f"{operation}: the answer was lost")
        return answer

    def chunks(self, body: Any, size_bytes: int) -> Generator[bytes]:
        return self._client.chunks(body, size_bytes)


@dataclass
class S3Target:
    """A prefix of its own in a bucket."""

    server: S3Server
    prefix: str
    state_folder: Path
    can_delete: bool = False
    client: Faulty = field(init=False)

    def __post_init__(self) -> None:
        self.client = Faulty(
            AwsClient("s3", region="us-east-1", endpoint_url=self.server.endpoint_url, own_retries=True)
        )

    @property
    def proves_integrity(self) -> bool:
        return self.server.proves_integrity

    @property
    def store(self) -> S3Store:
        config = StoreConfig(
            kind="s3", bucket=self.server.bucket, prefix=self.prefix, endpoint_url=self.server.endpoint_url
        )
        return S3Store(
            config, client=self.client, state_folder=self.state_folder, cluster=CLUSTER, first_wait_s=0.001
        )  # fmt: skip

    def unfinished(self) -> list[str]:
        answer = self.server.client().list_multipart_uploads(Bucket=self.server.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def objects(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """What lies below a folder of the prefix, by key, with what `HeadObject` tells."""
        client, bucket = self.server.client(), self.server.bucket
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{self.prefix}/{folder}").get("Contents", ())
        return {
            entry["Key"].removeprefix(f"{self.prefix}/"): client.head_object(Bucket=bucket, Key=entry["Key"])
            for entry in listed
        }
