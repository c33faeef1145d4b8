"""`member list`: a row for each member whatever it answers, its health as the guard has it, its node by the records."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent import bootstrap_ports
from agent.cli import main
from agent.domain import member_record
from agent.domain.cluster import Alarm, AlarmKind, Member
from agent.domain.member_record import NodeRecord, Tombstone
from agent.errors import CommandMissing, EtcdError, EtcdUnavailable
from agent.node import Node
from tests.unit.fakes import ENDPOINT, OTHER, OWN, STATUS, THIRD, FakeEtcd, FakeKeys, cut_off, member

URLS = {OTHER: "https://10.0.0.2:2379", THIRD: "https://10.0.0.3:2379"}
CLUSTER_ID = format(STATUS.cluster_id, "x")


@dataclass
class Outside:
    """A healthy cluster of three, led by the second member; a test changes what it wants to be otherwise."""

    etcd: FakeEtcd = field(default_factory=FakeEtcd)
    others: dict[str, FakeEtcd] = field(default_factory=dict)
    keys: FakeKeys = field(default_factory=FakeKeys)

    def says(self, member_id: int, **changes: Any) -> None:
        """What a member answers, but for what is told."""
        told = replace(replace(STATUS, endpoint=URLS[member_id], member_id=member_id), **changes)
        self.others[URLS[member_id]] = FakeEtcd(statuses=[told])

    def record(self, instance_id: str, member_id: int, *, cluster_id: str = CLUSTER_ID, version: str = "1.2") -> None:
        written = NodeRecord(
            instance_id, cluster_id, format(member_id, "x"), (), "node", (), "a", version,
            "2026-01-31T12:00:00Z", "1" * 32,
        )  # fmt: skip
        self.keys.put(member_record.key(instance_id), member_record.encode(written))


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    made = Outside()
    for member_id in URLS:
        made.says(member_id)
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("ETCD_AGENT_CLUSTER", "prod")
    monkeypatch.setenv("COLUMNS", "320")

    def make_etcd(node: Node, endpoint: str = "") -> FakeEtcd:
        return made.others[endpoint] if endpoint else made.etcd

    monkeypatch.setattr(bootstrap_ports, "make_etcd", make_etcd)
    monkeypatch.setattr(bootstrap_ports, "make_keys", lambda node: made.keys)
    return made


def listed(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert main(["member", "list", "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def rows(capsys: pytest.CaptureFixture[str]) -> dict[int, dict[str, Any]]:
    return {int(one["member_id"], 16): one for one in listed(capsys)["members"]}


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["member", "list"]) == 0
    return capsys.readouterr().out


def test_a_healthy_cluster(outside: Outside, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = listed(capsys)
    assert (document["cluster"], document["confirmed"], document["leader"]) == ("prod", True, format(OTHER, "x"))
    assert [one["health"] for one in document["members"]] == ["healthy"] * 3
    assert [one["is_leader"] for one in document["members"]] == [False, True, False]
    assert [one["is_this_node"] for one in document["members"]] == [True, False, False]
    lines = shown(capsys).splitlines()
    own = f"{OWN:x} node-1 (this node) https://10.0.0.1:2380 voter healthy 0 4.0 KiB 3.5.16 - - -"
    assert lines[1].split() == own.split()
    assert lines[2].split()[3] == "leader"
    assert lines[-1].startswith("can it lose a node now: yes, any one of the 3 healthy voters (G1)")
    assert not list(tmp_path.iterdir())  # no daemon, and no trace of a look


def test_who_is_silent_is_a_row_with_the_reason(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.others[URLS[THIRD]].failures.always("status", EtcdUnavailable("connection refused"))
    row = rows(capsys)[THIRD]
    assert (row["health"], row["why"]) == ("unhealthy", "does not answer (connection refused)")
    assert row["lag_entries"] is row["db_size_bytes"] is row["version"] is None
    text = shown(capsys)
    assert "node-3 does not answer (connection refused)" in text
    assert "can it lose a node now: no: remove member" in text
    assert "refused by G1" in text


@pytest.mark.parametrize("behind, health", [(40, "healthy"), (5000, "healthy"), (5001, "unhealthy")])
def test_the_lag_is_counted_from_the_leader(
    outside: Outside, capsys: pytest.CaptureFixture[str], behind: int, health: str
) -> None:
    outside.says(OTHER, raft_applied_index=STATUS.raft_applied_index + behind)
    row = rows(capsys)[OWN]
    assert (row["lag_entries"], row["health"]) == (behind, health)
    assert rows(capsys)[OTHER]["lag_entries"] == 0


def test_learners_and_members_that_never_started(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    unstarted = Member(77, "", ("https://10.0.0.4:2380",), (), is_learner=True)
    outside.etcd.member_list = [member(OWN, 1), member(OTHER, 2), member(THIRD, 3, is_learner=True), unstarted]
    outside.says(THIRD, is_learner=True)
    found = rows(capsys)
    assert [found[one]["role"] for one in (OWN, THIRD, 77)] == ["voter", "learner", "unstarted"]
    assert (found[77]["health"], found[77]["why"], found[77]["is_learner"]) == ("unhealthy", "never started", True)


def test_another_members_answer_is_not_taken_for_its_own(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.others[URLS[THIRD]].statuses = [replace(STATUS, db_size_bytes=12345)]
    row = rows(capsys)[THIRD]
    assert f"is answered for by member {OWN:x}" in row["why"]
    assert row["db_size_bytes"] is None


def test_alarms_stand_at_their_member_or_below(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.etcd.alarm_list = [Alarm(THIRD, AlarmKind.CORRUPT), Alarm(0xDEAD, AlarmKind.NOSPACE)]
    document = listed(capsys)
    assert document["members"][2]["alarms"] == ["CORRUPT"]
    assert document["members"][2]["why"] == "has the alarm CORRUPT"
    assert document["stray_alarms"] == ["NOSPACE of dead"]
    assert "alarm of no listed member: NOSPACE of dead" in shown(capsys)


def test_an_instance_is_told_only_by_a_record_of_this_cluster(
    outside: Outside, capsys: pytest.CaptureFixture[str]
) -> None:
    outside.record("i-former", OWN, version="1.0")
    outside.record("i-now", OWN, version="1.3")
    outside.record("i-restored", OTHER, cluster_id="c0ffee")
    outside.record("i-none", 0)
    gone = Tombstone("i-gone", CLUSTER_ID, format(THIRD, "x"), "2026-01-31T12:00:00Z", "retire-11111111", "1" * 32)
    outside.keys.put(member_record.key("i-gone"), member_record.encode(gone))
    outside.keys.put(member_record.key("i-broken"), b"{")
    found = rows(capsys)
    assert (found[OWN]["instance_id"], found[OWN]["agent_version"]) == ("i-now", "1.3")
    assert found[OWN]["former_instances"] == ["i-former"]
    assert found[OTHER]["instance_id"] is found[THIRD]["instance_id"] is None
    assert "i-now" in shown(capsys).splitlines()[1]


def test_records_that_can_not_be_read_hide_no_member(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.keys.failures.always("below", EtcdError("permission denied"))
    document = listed(capsys)
    assert document["records_unread"] == "permission denied"
    assert len(document["members"]) == 3


def test_a_list_that_no_quorum_confirmed_is_called_so(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.etcd.failures.always(f"read {ENDPOINT}", EtcdUnavailable("timed out"))
    document = listed(capsys)
    assert document["confirmed"] is False
    assert document["records_unread"]
    text = shown(capsys)
    assert "it may be old" in text
    assert "refused by G7" in text
    assert "get" not in outside.keys.failures.calls  # which would take its time-out once more


def test_a_member_without_a_leader_is_not_asked_for_a_read_that_only_times_out(
    outside: Outside, capsys: pytest.CaptureFixture[str]
) -> None:
    outside.etcd.statuses = [cut_off()]
    assert listed(capsys)["confirmed"] is False
    assert f"read {ENDPOINT}" not in outside.etcd.failures.calls


def test_a_split_over_the_leader_is_told(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    outside.says(OTHER, leader=THIRD, raft_term=9)
    document = listed(capsys)
    assert document["leader"] is None
    assert {one["lag_entries"] for one in document["members"]} == {None}
    assert "no common leader" in shown(capsys)


def fails(call: str, error: Exception) -> Callable[[Outside], None]:
    return lambda outside: outside.etcd.failures.always(call, error)


@pytest.mark.parametrize(
    "change, code, text",
    [
        (fails("status", EtcdUnavailable("refused", hint="is it up?")), "etcd_unavailable", "refused"),
        (fails("members", EtcdUnavailable("no quorum")), "etcd_unavailable", "no quorum"),
        (fails("alarms", EtcdError("not allowed")), "etcd_error", "not allowed"),
        (fails("status", CommandMissing("etcdctl is not there")), "command_missing", "etcdctl is not there"),
    ],
)
def test_without_a_list_it_fails_in_words(
    outside: Outside, capsys: pytest.CaptureFixture[str], change: Callable[[Outside], None], code: str, text: str
) -> None:
    change(outside)
    assert main(["member", "list", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == code
    assert text in told.err
    assert "Traceback" not in told.err
