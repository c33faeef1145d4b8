"""A real cluster of three without any daemon: `member list` and `status` say who is there and what may be lost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain import member_record
from agent.domain.cluster import hex_id, other_voters
from agent.domain.member_record import NodeRecord
from tests.etcd_versions import servers
from tests.etcd_versions.servers import Servers
from tests.sandbox import nodes
from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
VERSION = "3.5"
SHORT = {"ETCD_AGENT_ETCD__CALL_TIMEOUT_S": "2"}  # without a quorum calls end by their time-out


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Servers]:
    tools = servers.tools_or_skip(VERSION)
    with servers.running(VERSION, tools, tmp_path / "trio", size=3) as running:
        yield running


@pytest.fixture
def node(trio: Servers, tmp_path: Path) -> AgentNode:
    """The first member's machine, on which no agent ever ran."""
    return nodes.make(trio.members, tmp_path / "nodes", trio.tools, None)[0]


def listed(node: AgentNode) -> dict[str, Any]:
    completed = node.run("member", "list", "--json")
    assert completed.returncode == 0, completed.stderr
    document: dict[str, Any] = json.loads(completed.stdout)
    return document


def loss(node: AgentNode) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(node.run("status", "--json", environment=SHORT).stdout)["parts"]["loss"]
    return part


def lose(trio: Servers, member: EtcdMember) -> None:
    """Stops a member, and waits until the others agree on a leader again."""
    trio.cluster.stop_member(member)
    left = [one for one in trio.members if one is not member and one.child is not None and one.child.is_running()]
    for one in left:
        wait_until(one.is_healthy, f"{one.name} does not serve without {member.name}")


def test_the_answer_changes_with_each_member_that_stops(trio: Servers, node: AgentNode) -> None:
    whole = listed(node)
    assert [one["health"] for one in whole["members"]] == ["healthy"] * 3
    assert sorted(one["name"] for one in whole["members"]) == ["node-1", "node-2", "node-3"]
    assert (whole["confirmed"], sum(one["is_leader"] for one in whole["members"])) == (True, 1)
    assert all(one["db_size_bytes"] > 0 and one["lag_entries"] <= 5 for one in whole["members"])
    assert (loss(node)["can_lose_one"], loss(node)["rule"]) == (True, "G1")

    lose(trio, trio.members[2])
    found = {one["name"]: one for one in listed(node)["members"]}
    assert (found["node-3"]["health"], found["node-3"]["db_size_bytes"]) == ("unhealthy", None)
    assert found["node-3"]["why"].startswith("does not answer")
    assert [found[name]["health"] for name in ("node-1", "node-2")] == ["healthy"] * 2
    told = loss(node)
    assert (told["can_lose_one"], told["survives_failure"], told["rule"]) == (False, False, "G1")
    assert "refused by G1" in told["summary"]
    assert "repair member" in told["summary"]

    trio.cluster.stop_member(trio.members[1])
    wait_until(lambda: not trio.client.status().leader, "the survivor still names a leader")
    completed = node.run("member", "list", "--json", environment=SHORT)
    assert completed.returncode == 1
    assert "error" in json.loads(completed.stdout)
    assert "Traceback" not in completed.stderr
    told = loss(node)
    assert (told["can_lose_one"], told["rule"], told["voters"]) == (False, "G7", None)


def test_what_is_on_record_in_etcd_is_told(trio: Servers, node: AgentNode) -> None:
    own = trio.client.status()
    record = NodeRecord(
        "i-0abc", hex_id(own.cluster_id), hex_id(own.member_id), (trio.member.peer_url,), "node-1",
        (trio.member.address,), "eu-central-1a", "1.2.3", "2026-01-31T12:00:00Z", "1" * 32,
    )  # fmt: skip
    trio.put(member_record.key("i-0abc"), member_record.encode(record).decode())
    trio.put("/etcd-agent/v1/policy", json.dumps({"size": 5, "shrinking": False, "set_by": "operator",
                                                  "trace_id": "1" * 32}))  # fmt: skip
    document = listed(node)
    found = {int(one["member_id"], 16): one for one in document["members"]}
    assert (found[own.member_id]["instance_id"], found[own.member_id]["agent_version"]) == ("i-0abc", "1.2.3")
    assert [found[one.member_id]["instance_id"] for one in other_voters(trio.client.members(), own.member_id)] == [
        None,
        None,
    ]
    assert document["size"] == 5
    status = json.loads(node.run("status", "--json").stdout)
    assert (status["parts"]["loss"]["can_lose_one"], status["parts"]["loss"]["size"]) == (False, 5)
    assert "3 voters are listed of the 5" in next(one["message"] for one in status["problems"] if one["part"] == "loss")


def test_looking_changes_nothing(trio: Servers, node: AgentNode) -> None:
    before = trio.client.linearizable_revision(), trio.client.members()
    listed(node)
    node.run("status")
    assert (trio.client.linearizable_revision(), trio.client.members()) == before
    assert not (node.root / "var").exists()
