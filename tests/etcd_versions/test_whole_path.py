"""The main job on each version: by a command and by an event through Lambda and SSM, stored, and verified later."""

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.build import build
from tests.etcd_versions import divergence
from tests.etcd_versions.record_outputs import exact_version
from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.etcd_cluster import EtcdMember, call
from tests.sandbox.lambda_runtime import invoke, schedule_event
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

if TYPE_CHECKING:
    from subprocess import CompletedProcess

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
HANDLER = "lambdas.backup.handler"
MARK = b"a value that is found again in the file"
CHECKS = {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": "passed"}


@dataclass(frozen=True)
class World:
    """A control plane of one version, and the built Lambda."""

    plane: ControlPlane
    zip_path: Path
    keys: int

    def ended(self, command_id: str) -> dict[str, Any] | None:
        """What SSM knows of a command, once it ended."""
        arguments = {"CommandId": command_id, "Details": True}
        rows = self.plane.aws.ssm.call("ListCommandInvocations", arguments)["CommandInvocations"]
        return next((row for row in rows if row["Status"] in ("Success", "Failed", "TimedOut")), None)


@pytest.fixture(scope="module")
def world(version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    build(folder / "lambdas.zip")
    with control_plane.running(folder / "sandbox", etcd_version=version, with_s3=False) as plane:
        keys = kubernetes_data.fill(plane.etcd.members[0], 5, lambda written_bytes: None)
        yield World(plane, folder / "lambdas.zip", keys)


def manifest_of(node: AgentNode, op_id: str) -> dict[str, Any]:
    """The one manifest that an operation wrote into the node's directory."""
    paths = (node.root / "var/lib/etcd-agent/snapshots").glob("*/manifest/*/*.json")
    bodies = [json.loads(path.read_text()) for path in paths if ".verified-" not in path.name]
    (manifest,) = [body for body in bodies if body["op_id"] == op_id]
    assert isinstance(manifest, dict)
    return manifest


def holds(world: World, node: AgentNode, manifest: dict[str, Any]) -> None:
    """What every snapshot of this version has to say of itself, and that it is still right when it is read again."""
    exact = exact_version(world.plane.tools)
    assert manifest["etcd_version"] == exact
    assert manifest["tool"] == f"{'etcdctl' if exact.startswith('3.4.') else 'etcdutl'} {exact}"
    assert {check["level"]: check["outcome"] for check in manifest["checks"]} == CHECKS
    assert manifest["live_keys"] == world.keys
    assert manifest["total_key"] >= world.keys
    verified = node.run("snapshot", "verify", manifest["snapshot_id"])
    assert verified.returncode == 0, verified.stderr


def test_a_snapshot_by_command_is_stored_and_verified(world: World) -> None:
    node = world.plane.nodes[0]
    completed = node.run("submit", "snapshot", "--op-id", "snapshot-by-command", "--json")
    assert completed.returncode == 0, completed.stderr
    holds(world, node, manifest_of(node, "snapshot-by-command"))


def test_a_snapshot_by_an_event_is_stored_and_verified(world: World) -> None:
    event = schedule_event(str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    invocation = invoke(world.zip_path, HANDLER, event, world.plane.aws.lambda_environment)
    assert invocation.answer is not None, invocation.output
    answer = invocation.answer
    wait_until(lambda: world.ended(answer["command_id"]) is not None, "the command does not end", timeout_s=90)
    row = world.ended(answer["command_id"])
    assert row is not None
    assert row["Status"] == "Success", row
    node = world.plane.node(answer["instance_id"])
    manifest = manifest_of(node, answer["op_id"])
    assert manifest["trace_id"] == answer["trace_id"]
    holds(world, node, manifest)


def leads(member: EtcdMember) -> bool:
    with member.connection() as connection:
        status = call(connection, "/v3/maintenance/status", {})
    return bool(status["leader"] == status["header"]["member_id"])


def checked(node: AgentNode) -> "CompletedProcess[str]":
    """A snapshot of this node, compared with another member."""
    taken = node.run("snapshot", "create", "--json")
    assert taken.returncode == 0, taken.stderr
    return node.run("snapshot", "verify", "latest", "--level", "content")


def test_a_snapshot_is_compared_with_another_member_and_what_differs_is_flagged(world: World) -> None:
    """Last of all: it leaves a member altered."""
    one, other = (node for node in world.plane.nodes if not leads(node.member))
    with one.member.connection() as connection:
        key, value = (base64.b64encode(text).decode() for text in (b"/registry/marked", MARK))
        call(connection, "/v3/kv/put", {"key": key, "value": value})
    equal = checked(one)
    assert equal.returncode == 0, equal.stderr
    assert "agree at revision" in equal.stdout
    divergence.alter(world.plane.etcd, one.member, MARK)
    differs = checked(other)
    assert differs.returncode == 1
    assert "DIFFER at revision" in differs.stdout + differs.stderr
    newest = json.loads(other.run("snapshot", "list", "--json").stdout)["snapshots"][0]
    assert (newest["good"], newest["latest"]) == (False, False)
    assert "content differs" in newest["why_not_good"][0]
    assert "content.differs" in [line["event"] for line in other.log_lines() if line["level"] == "ERROR"]
