"""A day without AWS, in short: no Lambda, the store away for a time, nodes that die; each slot has one snapshot."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.domain import slots
from agent.domain.slots import SlotRecord
from tests.integration.s3_proxy import Fault, Proxy
from tests.sandbox import control_plane
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.etcd_cluster import EtcdMember, call
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
MAX_AGE_S = 20
KEY = base64.b64encode(b"/etcd-agent/v1/slot").decode()
SLOT_TIMEOUT_S = 60.0
SCHEDULED = {
    "ETCD_AGENT_SNAPSHOT__SCHEDULE": "true", "ETCD_AGENT_SNAPSHOT__MAX_AGE_S": str(MAX_AGE_S),
    "ETCD_AGENT_DAEMON__SCAN_INTERVAL_S": "1", "ETCD_AGENT_OUTBOX__RETRY_INTERVAL_S": "5",
    "ETCD_AGENT_DAEMON__STOP_TIMEOUT_S": "1",
}  # fmt: skip


@dataclass
class Day:
    """The control plane, the way to its store, and what its nodes did."""

    plane: ControlPlane
    proxy: Proxy | None

    @property
    def alive(self) -> list[AgentNode]:
        return [node for node in self.plane.nodes if node.daemon is not None and node.daemon.is_running()]

    @property
    def leader(self) -> AgentNode:
        """The node whose member leads."""
        node = self.alive[0]
        status = ask(node.member, "/v3/maintenance/status", {})
        members = ask(node.member, "/v3/cluster/member/list", {})["members"]
        name = next(one["name"] for one in members if one["ID"] == status["leader"])
        return next(node for node in self.plane.nodes if node.name == name)

    def begin(self, **more: str) -> None:
        """Starts every daemon again, with the schedule on."""
        for node in self.plane.nodes:
            assert node.daemon is not None
            self.plane.processes.stop(node.daemon)
            node.environment = {**node.environment, **SCHEDULED, **more}
        for node in self.plane.nodes:
            self.plane.restart_daemon(node)

    def record(self) -> SlotRecord | None:
        found = ask(self.alive[0].member, "/v3/kv/range", {"key": KEY}).get("kvs")
        return slots.decode(base64.b64decode(found[0]["value"])) if found else None

    def until_slot(self, number: int) -> SlotRecord:
        """Waits until that slot has its snapshot."""

        def done() -> bool:
            record = self.record()
            return record is not None and record.slot >= number and record.state == "done"

        wait_until(done, f"slot {number} is not taken", timeout_s=SLOT_TIMEOUT_S)
        record = self.record()
        assert record is not None
        assert record.slot == number
        return record

    def decisions(self, node: AgentNode) -> set[str]:
        """What its looks said."""
        return {line["decision"] for line in node.log_lines() if line["event"] == "schedule.looked"}

    def stored(self) -> list[dict[str, Any]]:
        """The manifests in the bucket, the oldest first."""
        s3 = self.plane.s3
        assert s3 is not None
        client = s3.client()
        keys = [one["Key"] for one in client.list_objects_v2(Bucket=s3.bucket).get("Contents", [])]
        bodies = [
            json.loads(client.get_object(Bucket=s3.bucket, Key=key)["Body"].read())
            for key in keys
            if "/manifest/" in key
        ]
        return sorted(bodies, key=lambda body: str(body["snapshot_id"]))

    def kept(self) -> dict[str, str]:
        """What lies in the nodes' outboxes, by its id with its node."""
        return {
            path.name.removesuffix(".json"): node.name
            for node in self.plane.nodes
            for path in (node.root / "var/lib/etcd-agent/outbox").glob("[0-9]*.json")
        }

    def die(self, node: AgentNode, *, with_etcd: bool) -> None:
        """As by a power cut."""
        assert node.daemon is not None
        node.daemon.kill()
        if with_etcd:
            assert node.member.child is not None
            node.member.child.kill()


def ask(member: EtcdMember, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with member.connection() as connection:
        return call(connection, path, body)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with control_plane.running(tmp_path_factory.mktemp("day") / "sandbox") as plane:
        assert plane.s3 is not None
        with Proxy(plane.s3.endpoint_url) as proxy:
            made = Day(plane, proxy)
            made.begin(ETCD_AGENT_STORE__ENDPOINT_URL=proxy.url)
            yield made
            for node in plane.nodes:  # before the proxy goes
                if node.daemon is not None:
                    plane.processes.stop(node.daemon)


def test_nobody_asks_and_the_first_snapshot_is_taken_once(day: Day) -> None:
    record = day.until_slot(1)
    (manifest,) = day.stored()
    assert (manifest["snapshot_id"], manifest["node"]) == (record.snapshot_id, record.node)
    assert (manifest["trace_id"], manifest["op_id"]) == (record.trace_id, record.op_id)
    taker = next(node for node in day.plane.nodes if node.name == record.node)
    wanted = {"schedule.asked", "slot.claimed", "manifest.written", "slot.ended", "metrics.snapshot"}

    def of_its_trace() -> set[str]:
        return {line["event"] for line in taker.log_lines() if line.get("trace_id") == record.trace_id}

    wait_until(lambda: wanted <= of_its_trace(), "lines of its trace are missing")  # the slot's end is told last


def test_with_the_store_away_a_follower_keeps_it_and_the_others_leave_it_at_that(day: Day) -> None:
    assert day.proxy is not None
    day.proxy.faults.append(Fault("any", reply=(403, "AccessDenied")))
    record = day.until_slot(2)
    assert not record.stored
    assert record.node != day.leader.name or "order" in day.decisions(day.leader)
    assert day.kept() == {record.snapshot_id: record.node}


def test_when_a_node_dies_another_one_takes_its_slot_and_all_is_shipped_under_its_own_trace(day: Day) -> None:
    assert day.proxy is not None
    before = day.record()
    assert before is not None
    leader = day.leader
    dies = next(node for node in day.plane.nodes if node.name not in (leader.name, before.node))
    day.die(dies, with_etcd=True)
    record = day.until_slot(3)
    assert record.node != dies.name
    assert sorted(day.kept()) == sorted({before.snapshot_id, record.snapshot_id})
    day.proxy.faults.clear()
    wait_until(lambda: len(day.stored()) == 3 and not day.kept(), "the outbox is not shipped", timeout_s=SLOT_TIMEOUT_S)
    stored = {one["snapshot_id"]: (one["trace_id"], one["op_id"]) for one in day.stored()}
    for kept in (before, record):
        assert stored[kept.snapshot_id] == (kept.trace_id, kept.op_id)


def test_the_leader_takes_it_when_nobody_else_is_left(day: Day) -> None:
    leader, before = day.leader, day.record()
    assert before is not None
    for node in day.alive:
        if node is not leader:
            day.die(node, with_etcd=False)

    taken: list[SlotRecord] = []

    def leader_took_one() -> bool:
        """What was under way already is another node's."""
        record = day.record()
        if record and (record.node, record.state) == (leader.name, "done") and record.slot > before.slot:
            taken.append(record)
        return bool(taken)

    wait_until(leader_took_one, "the leader takes none", timeout_s=SLOT_TIMEOUT_S)
    wait_until(
        lambda: taken[0].snapshot_id in [one["snapshot_id"] for one in day.stored()],
        "the leader's snapshot is not stored",
    )


def test_with_a_folder_of_its_own_each_node_keeps_its_own(tmp_path: Path) -> None:
    with control_plane.running(tmp_path / "sandbox", with_s3=False) as plane:
        day = Day(plane, None)
        day.begin()

        def each_has() -> bool:
            folders = [node.root / "var/lib/etcd-agent/snapshots" for node in plane.nodes]
            return all(any(folder.glob("*/manifest/*/*.json")) for folder in folders)

        wait_until(each_has, "not each node has its own snapshot", timeout_s=SLOT_TIMEOUT_S)
        assert day.record() is None
