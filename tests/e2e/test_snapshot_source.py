"""Which member a node reads: its own that follows, another where its own leads, that leader where nobody else fits."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.manifests import manifests_of
from tests.sandbox import control_plane
from tests.sandbox.certificates import Authority
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.etcd_cluster import EtcdMember, call
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path_factory.mktemp("plane") / "sandbox") as made:
        yield made


def ids_of(member: EtcdMember) -> tuple[int, int]:
    """Of the member and of who leads it, as it says."""
    with member.connection() as connection:
        answer = call(connection, "/v3/maintenance/status", {})
    return int(answer["header"]["member_id"]), int(answer.get("leader", 0))


def leader_and_followers(plane: ControlPlane) -> tuple[AgentNode, list[AgentNode]]:
    (leader,) = [node for node in plane.nodes if len(set(ids_of(node.member))) == 1]
    return leader, [node for node in plane.nodes if node is not leader]


def taken(plane: ControlPlane, node: AgentNode, op_id: str) -> dict[str, Any]:
    """The manifest of a snapshot that the node was asked for."""
    completed = node.run("submit", "snapshot", "--op-id", op_id, "--json", timeout_s=120)
    assert completed.returncode == 0, completed.stdout
    (manifest,) = manifests_of(plane, op_id)
    assert {check["level"]: check["outcome"] for check in manifest["checks"]}["fresh"] == "passed"
    return manifest


def lines(node: AgentNode, op_id: str, event: str) -> list[dict[str, Any]]:
    return [line for line in node.log_lines() if (line["event"], line.get("op_id")) == (event, op_id)]


def hex_id(node: AgentNode) -> str:
    return format(ids_of(node.member)[0], "x")


def test_a_follower_reads_its_own_member_and_a_leader_leaves_it_to_a_follower(plane: ControlPlane) -> None:
    leader, followers = leader_and_followers(plane)
    own = taken(plane, followers[0], "snapshot-by-follower")
    assert (own["member_id"], own["node"]) == (hex_id(followers[0]), followers[0].name)
    other = taken(plane, leader, "snapshot-by-leader")
    assert other["node"] == leader.name
    assert other["member_id"] in {hex_id(follower) for follower in followers}
    (line,) = lines(leader, "snapshot-by-leader", "source.chosen")
    assert (line["member_id"], line["is_local"]) == (other["member_id"], False)
    assert "etcd" in leader.run("snapshot", "show", other["snapshot_id"]).stdout
    dry = json.loads(leader.run("snapshot", "create", "--dry-run", "--json").stdout)["plan"]
    assert dry["member_id"] in {hex_id(follower) for follower in followers}


def test_a_follower_whose_certificate_does_not_fit_is_passed_by_and_then_the_leader_is_read(
    plane: ControlPlane,
) -> None:
    """With the other follower corrupt nobody is left but the local leader, which that one still confirms."""
    leader, (strange, other) = leader_and_followers(plane)
    corrupt_id, strange_id = ids_of(other.member)[0], hex_id(strange)
    with other_certificate(plane, strange.member):
        manifest = taken(plane, leader, "snapshot-of-other")
        assert manifest["member_id"] == hex_id(other)
        assert passed_by(leader, "snapshot-of-other").keys() == {strange_id}
        alarm(leader.member, "ACTIVATE", corrupt_id)
        try:
            manifest = taken(plane, leader, "snapshot-of-leader")
        finally:
            alarm(leader.member, "DEACTIVATE", corrupt_id)
    assert manifest["member_id"] == hex_id(leader)
    reasons = passed_by(leader, "snapshot-of-leader")
    assert reasons[format(corrupt_id, "x")] == "has the alarm CORRUPT"
    assert "does not answer" in reasons[strange_id]


def passed_by(node: AgentNode, op_id: str) -> dict[str, str]:
    return {line["member_id"]: line["reason"] for line in lines(node, op_id, "source.not_taken")}


def alarm(member: EtcdMember, action: str, member_id: int) -> None:
    with member.connection() as connection:
        body = {"action": action, "memberID": str(member_id), "alarm": "CORRUPT"}
        call(connection, "/v3/maintenance/alarm", body)


@contextlib.contextmanager
def other_certificate(plane: ControlPlane, member: EtcdMember) -> Iterator[None]:
    """The member serves clients by a certificate of an authority that no agent knows; its peers know it as before."""
    strange = Authority(plane.folder / "strange-pki", "another organization").issue("strange", member.address)
    own = member.certificate
    cluster = plane.etcd
    cluster.stop_member(member)
    cluster.start_member(member, flags=[f"--cert-file={strange.cert}", f"--key-file={strange.key}"])
    try:
        wait_until(lambda: listens(member), "it does not follow", child=member.child)
        yield
    finally:
        cluster.stop_member(member)
        cluster.start_member(member, flags=[f"--cert-file={own.cert}", f"--key-file={own.key}"])
        wait_until(member.is_healthy, "it does not come back", child=member.child)


def listens(member: EtcdMember) -> bool:
    """Whether it listens for clients, which etcd does once it has joined."""
    try:
        socket.create_connection((member.address, member.client_port), timeout=1).close()
    except OSError:
        return False
    return True
