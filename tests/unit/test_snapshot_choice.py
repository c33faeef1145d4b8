"""The operation `snapshot`: which member it is read from, and what comes of one that can not be read."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.cluster import Alarm, AlarmKind
from agent.errors import (
    AgentError,
    CommandTimeout,
    EtcdError,
    EtcdUnavailable,
    NoSpace,
)
from tests.unit.fakes import (
    ENDPOINT,
    OTHER,
    OWN,
    STATUS,
    THIRD,
    FakeEtcd,
)
from tests.unit.snapshot_node import Node, nothing_is_left, refused

SECOND, THIRD_URL = "https://10.0.0.2:2379", "https://10.0.0.3:2379"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def lead(node: Node) -> None:
    """This node's member leads, and the two others follow; the third one is ahead."""
    node.etcd.statuses = [replace(STATUS, leader=OWN)]
    for number, (url, member_id) in enumerate(((SECOND, OTHER), (THIRD_URL, THIRD))):
        told = replace(STATUS, endpoint=url, member_id=member_id, leader=OWN, raft_applied_index=9 + number)
        node.others[url] = FakeEtcd(statuses=[told])


def saved_by(node: Node) -> list[str]:
    doors = {ENDPOINT: node.etcd} | node.others
    return [url for url, door in doors.items() if "save_snapshot" in door.failures.calls]


def test_a_leader_leaves_the_reading_to_the_newest_follower_and_the_manifest_names_that_one(node: Node) -> None:
    lead(node)
    node.run()
    assert saved_by(node) == [THIRD_URL]
    (manifest,) = node.manifests()
    assert (manifest.member_id, manifest.member_name) == ("8000000000000003", "node-3")
    assert (manifest.member_endpoint, manifest.node) == (THIRD_URL, "node-1")
    assert {check.note for check in manifest.checks if check.level == "fresh"} == {"confirmed by node-1"}
    assert node.others[THIRD_URL].members_asked == [THIRD]  # what was confirmed elsewhere is there, and it is that one
    assert "count_keys" in node.others[THIRD_URL].failures.calls
    assert node.others[THIRD_URL].save_timeouts_s[0] == pytest.approx(30.0)  # time is left for this node's own


def test_a_local_follower_is_read_without_a_look_at_the_others(node: Node) -> None:
    node.others = {SECOND: FakeEtcd(), THIRD_URL: FakeEtcd()}
    node.run()
    assert saved_by(node) == [ENDPOINT]
    assert not node.others[SECOND].failures.calls
    assert node.etcd.save_timeouts_s == [60.0]


def test_with_the_source_local_a_leader_is_read_itself(node: Node) -> None:
    lead(node)
    node.only_local = True
    node.run()
    assert saved_by(node) == [ENDPOINT]
    assert not node.others[THIRD_URL].failures.calls


def test_with_the_source_local_nobody_stands_in_for_a_corrupt_member(node: Node) -> None:
    lead(node)
    node.only_local = True
    node.etcd.alarm_list = [Alarm(OWN, AlarmKind.CORRUPT)]
    refused(node, "corrupt")


def test_an_emergency_is_read_from_the_local_member_whoever_leads(node: Node) -> None:
    lead(node)
    node.run(params={"emergency": "true"})
    assert saved_by(node) == [ENDPOINT]


@pytest.mark.parametrize(
    "call, error",
    [
        ("status", EtcdUnavailable("x509: certificate signed by unknown authority")),
        (f"read {ENDPOINT}", EtcdUnavailable("too far behind")),
        ("save_snapshot", EtcdUnavailable("broke off")),
        ("save_snapshot", CommandTimeout("hangs")),
    ],
)
def test_where_followers_can_not_be_read_the_leader_is_and_the_reason_is_told(
    node: Node, caplog: pytest.LogCaptureFixture, call: str, error: AgentError
) -> None:
    lead(node)
    for door in node.others.values():
        door.failures.always(call, error)
    with caplog.at_level("INFO"):
        output = node.run()
    assert (output["stored"], saved_by(node)[0]) == (True, ENDPOINT)
    (manifest,) = node.manifests()
    assert (manifest.member_id, manifest.member_endpoint) == ("8000000000000001", ENDPOINT)
    told = [record for record in caplog.records if getattr(record, "event", "") == "source.not_taken"]
    assert {record.member_id for record in told} == {"8000000000000002", "8000000000000003"}  # type: ignore[attr-defined]
    assert all(error.message in record.getMessage() for record in told)


def test_a_corrupt_local_member_leaves_it_to_another_and_confirms_only_if_nobody_else_does(node: Node) -> None:
    lead(node)
    node.etcd.alarm_list = [Alarm(OWN, AlarmKind.CORRUPT)]
    node.run()
    assert saved_by(node) == [THIRD_URL]
    (manifest,) = node.manifests()
    assert {check.note for check in manifest.checks if check.level == "fresh"} == {"confirmed by node-2"}


def test_a_local_follower_that_is_stuck_leaves_it_to_another(node: Node) -> None:
    lead(node)
    node.etcd.statuses = [STATUS]
    for url in node.others:
        node.others[url].statuses = [replace(node.others[url].statuses[0], leader=OTHER)]
    node.etcd.failures.always(f"read {ENDPOINT}", CommandTimeout("stuck"))
    node.run()
    assert saved_by(node) == [THIRD_URL]


def test_where_nobody_is_left_what_the_last_one_failed_by_is_told(node: Node) -> None:
    lead(node)
    node.etcd.alarm_list = [Alarm(OWN, AlarmKind.CORRUPT)]
    for door in node.others.values():
        door.failures.always("save_snapshot", EtcdUnavailable("broke off"))
    with pytest.raises(EtcdUnavailable, match="broke off"):
        node.run()
    assert saved_by(node) == [SECOND, THIRD_URL]
    assert nothing_is_left(node)


def test_a_local_learner_that_can_not_list_the_others_is_refused_as_that(node: Node) -> None:
    node.etcd.statuses = [replace(STATUS, is_learner=True)]
    node.etcd.failures.always("members", EtcdError("rpc not supported for learner"))
    assert "rpc not supported for learner" in refused(node, "learner").message


def test_a_full_disk_of_this_node_is_no_reason_to_ask_another_member(node: Node) -> None:
    lead(node)
    node.others[THIRD_URL].failures.always("save_snapshot", NoSpace("disk full"))
    with pytest.raises(NoSpace):
        node.run()
    assert saved_by(node) == [THIRD_URL]
