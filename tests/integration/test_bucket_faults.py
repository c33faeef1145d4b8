"""Snapshots into a bucket that refuses, stalls, lies or is not there: what is told, what is left, what comes next."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.domain.multipart import PART_BYTES
from tests.integration.daemon_node import DaemonNode, node_in
from tests.integration.s3_proxy import Fault, Proxy
from tests.integration.stores import start_moto
from tests.sandbox import s3_server
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import S3Server
from tests.setup import debian

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    with Processes(folder / "logs") as processes:
        built = (debian.cache() / "tools/versitygw").exists()
        yield s3_server.start(processes, folder) if built else start_moto(processes)


@dataclass
class Place:
    """A node whose store is behind the proxy; its snapshots have two parts."""

    node: DaemonNode
    server: S3Server
    proxy: Proxy
    prefix: str

    def configure(self, **changes: str) -> None:
        values = {
            "kind": "s3", "bucket": self.server.bucket, "prefix": self.prefix, "region": "us-east-1",
            "endpoint_url": self.proxy.url,
        } | changes  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.node.set_config("[store]\ncall_timeout_s = 1\n" + "\n".join(lines) + "\n")

    def snapshot(self, op_id: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the result."""
        ended = self.node.command("submit", "snapshot", "--op-id", op_id, "--json")
        result: dict[str, Any] = json.loads(ended.stdout)["result"]
        return ended.returncode, result

    def not_taken(self, op_id: str) -> dict[str, Any]:
        """Asks for a snapshot that the store does not take: it stays on the node. Returns what stood against it."""
        exit_code, result = self.snapshot(op_id)
        assert (exit_code, result["status"], result["output"]["stored"]) == (0, "succeeded", False), result
        trouble: dict[str, Any] = result["output"]["why_not_stored"]
        return trouble

    def taken_later(self) -> dict[str, Any]:
        """What the store takes now of what stayed on the node."""
        ended = self.node.command("submit", "outbox", "--json")
        result: dict[str, Any] = json.loads(ended.stdout)["result"]
        assert (ended.returncode, len(result["output"]["shipped"])) == (0, 1), result
        return result

    def keys(self, part: str) -> list[str]:
        listed = self.server.client().list_objects_v2(Bucket=self.server.bucket, Prefix=self.prefix)
        return [entry["Key"] for entry in listed.get("Contents", ()) if f"/{part}/" in entry["Key"]]

    def unfinished(self) -> list[str]:
        answer = self.server.client().list_multipart_uploads(Bucket=self.server.bucket, Prefix=self.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def no_manifest_is_without_its_data(self) -> bool:
        client, found = self.server.client(), self.keys("data")
        for key in self.keys("manifest"):
            body = client.get_object(Bucket=self.server.bucket, Key=key)["Body"].read()
            if f"{self.prefix}/{json.loads(body)['data']['key']}" not in found:
                return False
        return True


@pytest.fixture
def place(server: S3Server, tmp_path: Path) -> Iterator[Place]:
    body = os.urandom((PART_BYTES + 512 * 100) // 512 * 512)
    with node_in(tmp_path) as node, Proxy(server.endpoint_url) as proxy:
        (node.etcd / "snapshot.db").write_bytes(body + hashlib.sha256(body).digest())
        made = Place(node, server, proxy, f"run-{secrets.token_hex(6)}")
        made.configure()
        node.start(**server.environment)
        assert made.snapshot("snapshot-before")[0] == 0
        yield made


# What happens to calls for as long as it takes; code, exit, and what the hint says.
FAULTS: dict[str, tuple[Fault, str, str]] = {
    "throttled for ever": (Fault("part", reply=(503, "SlowDown")), "aws_unavailable", "later"),
    "an error after all": (Fault("complete", reply=(200, "InternalError")), "aws_unavailable", "later"),
    "answers lost": (Fault("create", loses=True), "aws_unavailable", "reachable"),
    "wrong clock": (Fault("any", reply=(403, "RequestTimeTooSkewed")), "aws_credentials", "timedatectl"),
    "no manifest": (Fault("manifest", reply=(403, "AccessDenied")), "aws_refused", "role"),
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_fault_is_told_leaves_nothing_half_and_the_snapshot_comes_later(place: Place, how: str) -> None:
    given, code, hint = FAULTS[how]
    place.proxy.faults.append(Fault(**vars(given)))
    trouble = place.not_taken("snapshot-faulty")
    assert trouble["code"] == code, trouble
    assert hint in trouble["hint"], trouble
    assert len(place.keys("manifest")) == 1
    place.proxy.faults.clear()
    place.taken_later()
    assert len(place.keys("manifest")) == 2
    assert place.unfinished() == []
    assert place.no_manifest_is_without_its_data()
    assert not [path for path in (place.node.root / "var/lib/etcd-agent/work").iterdir() if path.is_dir()]


def test_faults_that_go_by_cost_time_and_nothing_else(place: Place) -> None:
    place.proxy.faults += [
        Fault("create", loses=True, times=1), Fault("part", reply=(503, "SlowDown"), times=2),
        Fault("part", resets=True, times=1), Fault("complete", reply=(200, "InternalError"), times=1),
        Fault("complete", loses=True, times=1), Fault("manifest", loses=True, times=1),
        Fault("get", stalls=True, times=1),
    ]  # fmt: skip
    exit_code, result = place.snapshot("snapshot-while")
    assert (exit_code, result["attempt"], result["output"]["already"]) == (0, 1, False), result
    assert all(fault.times == 0 for fault in place.proxy.faults), "a fault was not met"
    assert (len(place.keys("data")), len(place.keys("manifest"))) == (2, 2)
    assert place.unfinished() == []
    assert place.no_manifest_is_without_its_data()


WRONG_STORES = {
    "no such bucket": ({"bucket": "no-such-bucket"}, "aws_refused", "store.bucket"),
    "plain where TLS is meant": ({"endpoint_url": "https:"}, "aws_unavailable", "AWS_CA_BUNDLE"),
}


@pytest.mark.parametrize("how", WRONG_STORES)
def test_a_store_that_is_none_is_told_and_takes_the_snapshot_once_it_is_right(place: Place, how: str) -> None:
    changes, code, hint = WRONG_STORES[how]
    url = changes.get("endpoint_url", place.proxy.url).replace("https:", place.proxy.url.replace("http", "https"))
    place.configure(**changes | {"endpoint_url": url})
    trouble = place.not_taken("snapshot-faulty")
    assert trouble["code"] == code, trouble
    assert hint in trouble["hint"], trouble
    place.configure()
    place.taken_later()
    assert len(place.keys("manifest")) == 2


def test_a_node_without_credentials_says_so_and_goes_on_once_it_has_them(server: S3Server, tmp_path: Path) -> None:
    with node_in(tmp_path) as node, Proxy(server.endpoint_url) as proxy:
        place = Place(node, server, proxy, f"run-{secrets.token_hex(6)}")
        place.configure()
        daemon = node.start(AWS_EC2_METADATA_DISABLED="true")
        trouble = place.not_taken("snapshot-none")
        assert (trouble["code"], trouble["retryable"]) == ("aws_credentials", True), trouble
        assert "instance role" in trouble["hint"]
        daemon.process.terminate()
        daemon.process.wait(20)
        node.start(**server.environment)
        place.taken_later()
        assert len(place.keys("manifest")) == 1
        assert server.environment["AWS_SECRET_ACCESS_KEY"] not in node.log_file.read_text()
