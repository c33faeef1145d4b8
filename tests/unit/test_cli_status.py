"""`status`: exit 0 when all is well, else 1, and every part that does not answer is told without hiding the others."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import bootstrap_ports
from agent.adapters.files import Lock
from agent.adapters.spool import Spool
from agent.cli import main
from agent.domain import membership_policy, snapshot
from agent.domain.cluster import Alarm, AlarmKind, Member
from agent.domain.membership_policy import SizeRecord
from agent.domain.request import Record, encode, format_moment, make
from agent.errors import AgentError, AwsUnavailable, CommandMissing, EtcdUnavailable, StoreError
from agent.node import Node
from tests.unit.fakes import ENDPOINT, OTHER, OWN, STATUS, THIRD, FakeEtcd, FakeKeys, FakeStore, cut_off, member
from tests.unit.test_snapshot_domain import manifest

URLS = {OTHER: "https://10.0.0.2:2379", THIRD: "https://10.0.0.3:2379"}


@dataclass
class Outside:
    """A healthy node's outside; a test changes what it wants to be otherwise."""

    root: Path
    etcd: FakeEtcd = field(default_factory=FakeEtcd)
    others: dict[str, FakeEtcd] = field(default_factory=dict)
    store: FakeStore = field(default_factory=FakeStore)
    keys: FakeKeys = field(default_factory=FakeKeys)

    @property
    def spool(self) -> Spool:
        return Spool(self.root / "var/lib/etcd-agent/spool")

    def put_snapshot(self, age_s: float) -> None:
        requested_at = format_moment(datetime.now(UTC) - timedelta(seconds=age_s))
        identifier = snapshot.snapshot_id(requested_at, "snapshot-0123456789abcdef")
        made = manifest(requested_at=requested_at, snapshot_id=identifier)
        self.store.objects[snapshot.manifest_key("hourly", "prod", identifier)] = snapshot.encode(made)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    made = Outside(tmp_path)
    for member_id, url in URLS.items():
        made.others[url] = FakeEtcd(statuses=[replace(STATUS, endpoint=url, member_id=member_id)])
    made.put_snapshot(60)
    made.spool.create()
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("ETCD_AGENT_CLUSTER", "prod")
    monkeypatch.setenv("COLUMNS", "220")

    def make_etcd(node: Node, endpoint: str = "") -> FakeEtcd:
        return made.others[endpoint] if endpoint else made.etcd

    monkeypatch.setattr(bootstrap_ports, "make_etcd", make_etcd)
    monkeypatch.setattr(bootstrap_ports, "make_keys", lambda node: made.keys)
    monkeypatch.setattr(bootstrap_ports, "make_store", lambda node: made.store)
    return made


@pytest.fixture
def daemon(tmp_path: Path) -> Lock:
    lock = Lock(tmp_path / "run/etcd-agent/daemon.lock")
    lock.path.parent.mkdir(parents=True)
    assert lock.try_acquire("4711\n")
    return lock


def look(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    assert main(["status", "--json"]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    document: dict[str, Any] = json.loads(told.out)
    assert document["healthy"] is (code == 0)
    return document


def screen(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert main(["status"]) == code
    return capsys.readouterr().out


def problems(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {one["part"]: f"{one['message']} / {one['hint']}" for one in look(capsys, 1)["problems"]}


def test_all_is_well(outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    document = look(capsys, 0)
    assert document["problems"] == []
    assert document["parts"]["daemon"] == {"is_there": True, "pid": 4711}
    assert document["parts"]["member"]["member_id"] == format(OWN, "x")
    assert document["parts"]["cluster"]["healthy_voters"] == 3
    assert document["parts"]["loss"]["can_lose_one"] is True
    text = screen(capsys, 0)
    assert "problem" not in text
    assert "3 of 3 voters healthy, quorum is 2: 1 more may fail" in text
    assert "node-1 (this node)" in text


def test_without_a_daemon(outside: Outside, capsys: pytest.CaptureFixture[str]) -> None:
    assert "systemctl" in problems(capsys)["daemon"]
    assert "daemon: no daemon is running" in screen(capsys, 1)


def test_running_and_waiting_operations_are_shown(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    for state, op_id in (
        ("running", "snapshot-running"),
        ("waiting", "snapshot-waiting"),
        ("incoming", "snapshot-new"),
    ):
        moment = format_moment(datetime.now(UTC))
        request = make(op_id=op_id, operation="snapshot", trace_id="1" * 32, requested_at=moment)
        outside.spool.path(state, op_id).write_bytes(encode(Record(request)))
    outside.spool.write_progress("snapshot-running", {"step": "save", "percent": 40})
    text = screen(capsys, 0)
    assert "snapshot snapshot-running running, step save, 40 %; snapshot snapshot-waiting waiting; 1 queued" in text
    outside.spool.path("running", "snapshot-cut").write_text("{")
    assert "running/snapshot-cut.json is damaged" in problems(capsys)["operations"]


def broken(call: str, error: AgentError) -> Callable[[Outside], None]:
    return lambda outside: outside.etcd.failures.always(call, error)


def second_silent(outside: Outside) -> None:
    outside.others[URLS[OTHER]].failures.always("status", EtcdUnavailable("connection refused"))


def second_elsewhere(outside: Outside) -> None:
    outside.others[URLS[OTHER]].statuses = [replace(STATUS, endpoint=URLS[OTHER], member_id=OTHER, leader=THIRD)]


def second_by_a_balancer(outside: Outside) -> None:
    outside.others[URLS[OTHER]].statuses = [STATUS]


def never_started(outside: Outside) -> None:
    outside.etcd.member_list = [member(OWN, 1), Member(OTHER, "", ("https://10.0.0.2:2380",), (), False)]


def removed(outside: Outside) -> None:
    outside.etcd.member_list = [member(OTHER, 2), member(THIRD, 3)]


def alarm(kind: AlarmKind) -> Callable[[Outside], None]:
    def raise_alarm(outside: Outside) -> None:
        outside.etcd.alarm_list = [Alarm(THIRD, kind)]

    return raise_alarm


def leaderless(outside: Outside) -> None:
    outside.etcd.statuses = [cut_off()]


def learner(outside: Outside) -> None:
    outside.etcd.statuses = [replace(STATUS, is_learner=True)]


def no_snapshot(outside: Outside) -> None:
    outside.store.objects.clear()


def old_snapshot(outside: Outside) -> None:
    outside.store.objects.clear()
    outside.put_snapshot(7 * 3600)


def store_silent(outside: Outside) -> None:
    outside.store.failures.always("keys", StoreError("the bucket is gone", hint="look at store.bucket"))


def store_forbidden(outside: Outside) -> None:
    error = StoreError("it can not be used")
    error.__cause__ = PermissionError(13, "Permission denied")
    outside.store.failures.always("keys", error)


@pytest.mark.parametrize(
    "change, part, text",
    [
        (broken("status", EtcdUnavailable("refused", hint="`etcd-agent status`")), "member", "is etcd running there?"),
        (broken("status", CommandMissing("etcdctl is not there", hint="set tools_dir")), "member", "set tools_dir"),
        (broken("members", EtcdUnavailable("timed out")), "cluster", "timed out / this takes a quorum"),
        (leaderless, "member", "knows no leader"),
        (learner, "member", "is a learner"),
        (second_silent, "cluster", "node-2 does not answer: connection refused / is etcd running at https://10.0.0.2"),
        (second_elsewhere, "cluster", f"names the leader {THIRD:x}"),
        (second_by_a_balancer, "cluster", f"answers as {OWN:x}"),
        (never_started, "cluster", "was added and never started / start etcd at https://10.0.0.2:2380"),
        (removed, "cluster", "does not have this node's member"),
        (alarm(AlarmKind.NOSPACE), "cluster", f"member {THIRD:x} has the alarm NOSPACE / its database"),
        (alarm(AlarmKind.CORRUPT), "cluster", f"member {THIRD:x} has the alarm CORRUPT / its data"),
        (no_snapshot, "snapshot", "there is no good snapshot / `etcd-agent snapshot create`"),
        (old_snapshot, "snapshot", "7 h 0 min old, more than 6 h 0 min"),
        (store_silent, "snapshot", "the bucket is gone / look at store.bucket"),
        (store_forbidden, "snapshot", "sudo"),
    ],
)
def test_what_is_wrong_is_told_and_hides_no_other_part(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str],
    change: Callable[[Outside], None], part: str, text: str,
) -> None:  # fmt: skip
    change(outside)
    found = problems(capsys)
    assert text in found[part]
    assert "daemon" not in found
    shown = screen(capsys, 1)
    below = shown.partition("\nPART ")[2].splitlines()[1:11]
    rows = {line.split()[0]: line.split()[1] for line in below}
    assert rows[part] == "problem"
    assert list(rows) == [
        "platform",
        "daemon",
        "tools",
        "member",
        "cluster",
        "loss",
        "snapshot",
        "schedule",
        "outbox",
        "operations",
    ]


def test_what_the_store_did_not_take_is_told_also_while_the_store_is_away(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = outside.root / "var/lib/etcd-agent/outbox"
    folder.mkdir(parents=True)
    for name in ("20260131T120000Z-01234567", "20260131T130000Z-01234567"):
        (folder / f"{name}.json").write_bytes(b"{}")
    (folder / "20260131T140000Z-01234567.db.zst").write_bytes(b"unfinished")
    outside.store.failures.always("keys", AwsUnavailable("away"))
    found = problems(capsys)
    assert "2 verified snapshots that the store did not take" in found["outbox"]
    assert "away" in found["snapshot"]
    assert look(capsys, 1)["parts"]["outbox"]["kept"] == 2


def test_a_missing_leader_is_told_once(outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    leaderless(outside)
    assert [one["part"] for one in look(capsys, 1)["problems"]].count("member") == 1


def test_a_member_that_does_not_answer_lowers_what_may_fail(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    second_silent(outside)
    assert "2 of 3 voters healthy, quorum is 2: no further one may fail" in screen(capsys, 1)
    second_elsewhere(outside)
    outside.others[URLS[THIRD]].failures.always("status", EtcdUnavailable("refused"))
    assert "1 of 3 voters healthy, quorum is 2: it is lost" in screen(capsys, 1)


def told_of_loss(outside: Outside, capsys: pytest.CaptureFixture[str], code: int) -> tuple[str, str]:
    """State and text of the part `loss`; why not stands below."""
    lines = screen(capsys, code).splitlines()
    _, state, text = next(one for one in lines if one.startswith("loss ")).split(maxsplit=2)
    below = [at for at, one in enumerate(lines) if one.startswith("loss: ")]
    assert bool(below) is (state != "ok")
    return state, " ".join(one.strip() for one in lines[below[0] :]).removeprefix("loss: ") if below else text


def policy(size: int) -> bytes:
    return membership_policy.encode(SizeRecord(size, shrinking=False, set_by="observed", trace_id="1" * 32))


def test_a_whole_cluster_can_lose_a_node_and_says_by_what_that_is_judged(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    state, text = told_of_loss(outside, capsys, 0)
    assert state == "ok"
    assert text.startswith("yes, any one of the 3 healthy voters (G1): 2 of 3 stay healthy, quorum is 2")
    assert "judged by the 3 listed voters; the size it is meant to have is not on record" in text
    outside.keys.put(membership_policy.POLICY_KEY, policy(3))
    assert "judged by" not in told_of_loss(outside, capsys, 0)[1]


def test_with_one_down_the_guards_own_verdict_says_why_not(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    outside.others[URLS[THIRD]].failures.always("status", EtcdUnavailable("connection refused"))
    state, text = told_of_loss(outside, capsys, 1)
    assert state == "no"
    assert text.startswith(f"no: remove member {OWN:x} node-1: refused by G1: without member {OWN:x} node-1 1 healthy")


def test_a_voter_that_is_not_listed_any_more_is_missed_where_the_size_is_on_record(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    outside.etcd.member_list = [member(OWN, 1), member(OTHER, 2)]
    state, text = told_of_loss(outside, capsys, 0)
    assert state == "no"
    assert text.startswith("no (quorum): if one of 2 healthy voters fails, 1 of 2 stay healthy, quorum is 2")
    outside.keys.put(membership_policy.POLICY_KEY, policy(3))
    assert "2 voters are listed of the 3 that the cluster is meant to have" in problems(capsys)["loss"]
    assert look(capsys, 1)["parts"]["loss"]["rule"] == "G1"


@pytest.mark.parametrize("content", [b"", b"{", b'{"size":0}'])
def test_a_size_that_can_not_be_read_is_not_known(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    outside.keys.put(membership_policy.POLICY_KEY, content)
    assert look(capsys, 0)["parts"]["loss"]["size"] is None
    outside.keys.failures.always("get", EtcdUnavailable("timed out"))
    assert look(capsys, 0)["parts"]["loss"]["size"] is None


@pytest.mark.parametrize("call", ["members", f"read {ENDPOINT}"])
def test_without_a_confirmed_list_no_node_may_be_lost(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    outside.etcd.failures.always(call, EtcdUnavailable("timed out"))
    part = look(capsys, 1 if call == "members" else 0)["parts"]["loss"]
    assert (part["can_lose_one"], part["rule"]) == (False, "G7")
    assert "not confirmed by a linearizable read" in part["summary"]


def test_a_damaged_manifest_newer_than_the_good_one_is_a_problem(
    outside: Outside, daemon: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    outside.store.objects["hourly/manifest/prod/29990101T000000Z-00000000.json"] = b"{"
    assert "damaged: hourly/manifest/prod/29990101" in problems(capsys)["snapshot"]


def test_a_node_on_which_no_agent_ever_ran_is_looked_at_too(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path / "bare"))
    document = look(capsys, 1)
    assert [one["part"] for one in document["problems"]] == ["daemon"]
    assert document["parts"]["member"]["endpoint"] == ENDPOINT
    assert not (tmp_path / "bare").exists()
