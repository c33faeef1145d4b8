"""Level `content` as an operation: whom it asks, what it records, and that nothing of it is a false alarm."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.domain import content_claim, snapshot
from agent.domain.cluster import Alarm, AlarmKind, hex_id
from agent.domain.content_claim import Claim
from agent.domain.hash_kv import HashKV
from agent.domain.request import format_moment
from agent.domain.snapshot import Backup, Manifest
from agent.errors import (
    BadInput,
    ContentDiffers,
    EtcdAnswerInvalid,
    EtcdOutcomeUnknown,
    NoSpace,
    Refused,
    SnapshotInvalid,
)
from agent.operations import catalogue, content, dry_run, leftovers
from agent.operations.content import ContentPorts
from agent.operations.steps import Steps
from tests.unit.fakes import OTHER, OWN, STATUS, THIRD, FakeEtcd, FakeTool, member, snapshot_bytes
from tests.unit.test_verify_operation import Node

URLS = {OWN: "https://10.0.0.1:2379", OTHER: "https://10.0.0.2:2379", THIRD: "https://10.0.0.3:2379"}
REVISION = 21


class Trio:
    """Three members of one release, OTHER leading, and a store with one snapshot of OWN's."""

    def __init__(self, folder: Path, version: str) -> None:
        self.node = Node(folder)
        self.store = self.node.store
        self.tool = FakeTool(name=f"etcdutl {version}")
        self.doors = {}
        for member_id, url in URLS.items():
            tells = version.startswith("3.6")
            door = FakeEtcd(hash_answer=HashKV(0xAB, -1, REVISION if tells else None, member_id))
            status = replace(STATUS, endpoint=url, member_id=member_id, version=version, revision=REVISION)
            door.statuses = [status]
            self.doors[url] = door
        taken = self.node.take(1)
        self.manifest = msgspec.structs.replace(taken, etcd_version=version)
        self.write(self.manifest)
        self.max_db_bytes = 10**6
        self.free_bytes = 10**9

    def door(self, member_id: int) -> FakeEtcd:
        return self.doors[URLS[member_id]]

    def write(self, manifest: Manifest) -> None:
        key = snapshot.manifest_key(manifest.retention_class, "prod", manifest.snapshot_id)
        self.store.objects[key] = snapshot.encode(manifest)

    @property
    def ports(self) -> ContentPorts:
        return ContentPorts(
            self.door(OWN), lambda url: self.doors[url], self.tool, self.store, lambda folder: self.free_bytes,
            self.max_db_bytes, 50.0,
        )  # fmt: skip

    def check(self, op_id: str = "verify-content-1", **params: str) -> dict[str, Any]:
        values = {"id": "latest", "level": "content", **params}
        job = self.node.job(op_id, "verify", values, "2026-02-01T12:00:00Z")
        self.steps = Steps(lambda progress: None)
        try:
            return content.run(job, self.ports, self.steps)
        finally:
            assert not list(job.folder.glob("*"))
            leftovers.remove_attempt(job.folder)

    def plan(self) -> dict[str, Any]:
        job = self.node.job("verify-dry-run", "verify", {"id": "latest", "level": "content"}, "2026-02-01T12:00:00Z")
        leftovers.remove_attempt(job.folder)
        return dry_run.plan_content(job, self.ports)

    def asked(self) -> list[str]:
        return [hex_id(member_id) for member_id in URLS for _ in self.door(member_id).hashed]

    def backup(self) -> Backup:
        found = catalogue.find(self.store, "prod", self.manifest.snapshot_id)
        assert found is not None
        return found

    def outcomes(self) -> list[str]:
        return [check.outcome for record in self.backup().verifications for check in record.checks]

    def claims(self) -> list[str]:
        return self.store.keys(content_claim.folder("prod"))

    def claimed(self, ago: timedelta) -> None:
        moment = datetime.now(UTC) - ago
        key = content_claim.key("prod", moment)
        self.store.objects[key] = content_claim.encode(Claim("verify-of-another", format_moment(moment)))


@pytest.fixture(params=["3.5.16", "3.6.16"])
def trio(request: pytest.FixtureRequest, tmp_path: Path) -> Trio:
    return Trio(tmp_path, request.param)


@pytest.fixture
def of_files(tmp_path: Path) -> Trio:
    return Trio(tmp_path, "3.6.16")


@pytest.fixture
def of_members(tmp_path: Path) -> Trio:
    return Trio(tmp_path, "3.5.16")


def test_below_3_6_the_source_and_another_follower_are_compared_and_the_record_says_so(of_members: Trio) -> None:
    answer = of_members.check()
    assert answer["outcome"] == "passed"
    assert answer["compared"] == (
        f"member {hex_id(OWN)} node-1 and member {hex_id(THIRD)} node-3 agree at revision 21: HashKV 000000ab"
    )
    (record,) = of_members.backup().verifications
    assert (record.level, record.passed, record.message) == ("content", True, "")
    assert record.checks[0].note == answer["compared"]
    assert of_members.asked() == [hex_id(OWN), hex_id(THIRD)]
    assert of_members.door(OWN).hashed == [(REVISION, 50.0)]
    assert [step.name for step in of_members.steps.results] == ["find", "plan", "claim", "ask", "record"]
    assert of_members.tool.hashed == []


def test_from_3_6_on_the_stored_file_and_a_follower_that_it_is_not_of_are_compared(of_files: Trio) -> None:
    answer = of_files.check()
    assert answer["compared"] == (
        f"the stored file and member {hex_id(THIRD)} node-3 agree at revision 21: HashKV 000000ab"
    )
    assert of_files.tool.hashed == [snapshot_bytes()]
    assert of_files.asked() == [hex_id(THIRD)]
    steps = ["find", "plan", "download", "hash", "claim", "ask", "record"]
    assert [step.name for step in of_files.steps.results] == steps


def test_a_difference_is_recorded_told_and_ends_its_being_the_latest_good_one(trio: Trio) -> None:
    trio.door(THIRD).hash_answer = replace(trio.door(THIRD).hash_answer or HashKV(0, 0), hash=0xCD)
    with pytest.raises(ContentDiffers, match="DIFFER at revision 21: HashKV 000000ab and 000000cd"):
        trio.check()
    assert trio.outcomes() == ["failed"]
    assert not trio.backup().is_good
    assert catalogue.newest_good(trio.store, "prod", damaged=[]) is None
    trio.node.verify(trio.manifest.snapshot_id)  # its bytes are right, which heals nothing
    assert not trio.backup().is_good


@pytest.mark.parametrize("answer", [None, HashKV(0xCD, 9, None, THIRD), HashKV(0xCD, -1, 20, THIRD)])
def test_what_can_not_be_compared_is_recorded_as_that_and_makes_nothing_worse(
    trio: Trio, answer: HashKV | None
) -> None:
    trio.door(THIRD).hash_answer = answer
    with pytest.raises(Refused) as caught:
        trio.check()
    assert caught.value.rule == "content-not-comparable"
    assert trio.outcomes() == ["not_comparable"]
    assert trio.backup().is_good
    assert [record.passed for record in trio.backup().verifications] == [False]


def test_a_compaction_since_is_noticed_before_anybody_stalls(trio: Trio) -> None:
    trio.door(OWN).live_keys = None
    with pytest.raises(Refused, match="the cluster was compacted since"):
        trio.check()
    assert trio.asked() == []
    assert trio.claims() == []
    assert trio.outcomes() == ["not_comparable"]


@pytest.mark.parametrize("name", ["etcdctl 3.5.16", "etcdutl 3.5.16", "etcdutl of unknown version"])
def test_a_tool_that_can_not_hash_that_file_compares_nothing(of_files: Trio, name: str) -> None:
    of_files.tool.name = name
    with pytest.raises(Refused) as caught:
        of_files.check()
    assert caught.value.rule == "content-not-comparable"
    assert (of_files.asked(), of_files.claims()) == ([], [])


def test_a_cluster_that_can_spare_nobody_is_asked_nothing_and_nothing_is_recorded(trio: Trio) -> None:
    trio.door(OWN).alarm_list = [Alarm(THIRD, AlarmKind.CORRUPT)]
    with pytest.raises(Refused) as caught:
        trio.check()
    assert caught.value.rule == "content-unhealthy"
    assert (trio.asked(), trio.claims(), trio.outcomes()) == ([], [], [])


def test_a_member_that_was_made_leader_meanwhile_is_not_asked(of_members: Trio) -> None:
    """The first hash may itself be why: the second member is chosen by what is so then."""
    third = of_members.door(THIRD)
    asked_first = of_members.door(OWN)

    def elected(revision: int, *, timeout_s: float) -> HashKV | None:
        for door in of_members.doors.values():
            door.statuses = [replace(door.statuses[0], leader=THIRD, raft_term=3)]
        return HashKV(0xAB, -1, None, OWN)

    asked_first.hash_kv = elected  # type: ignore[method-assign]
    of_members.check()
    assert third.hashed == []
    assert len(of_members.door(OTHER).hashed) == 1


def test_at_most_daily_and_by_force_not_within_minutes(trio: Trio) -> None:
    trio.claimed(timedelta(hours=23))
    for params in ({}, {"force": "false"}):
        with pytest.raises(Refused) as caught:
            trio.check(**params)
        assert caught.value.rule == "content-too-soon"
    assert (trio.asked(), trio.outcomes(), trio.tool.hashed, len(trio.claims())) == ([], [], [], 1)
    assert trio.check(force="true")["outcome"] == "passed"
    with pytest.raises(Refused, match="15 minutes"):
        trio.check("verify-content-2", force="true")


def test_after_a_day_it_is_done_again(trio: Trio) -> None:
    trio.claimed(timedelta(hours=24, minutes=1))
    assert trio.check()["outcome"] == "passed"


def test_of_two_nodes_at_once_one_asks(trio: Trio) -> None:
    """The other one's claim comes between our look and our own."""

    def first_here(call: str, key: str) -> None:
        if call == "put_if_absent" and key.startswith("coordination/") and not trio.claims():
            trio.claimed(timedelta())

    trio.store.before = first_here
    with pytest.raises(Refused, match="verify-of-another asked"):
        trio.check()
    assert (trio.asked(), trio.outcomes()) == ([], [])


def test_who_claimed_another_day_a_moment_ago_is_seen_too(trio: Trio) -> None:
    """Two nodes on two sides of midnight have two names: who sees the other's claim gives way."""

    def at_midnight(call: str, key: str) -> None:
        if call == "put_if_absent" and key.startswith("coordination/"):
            moment = datetime.now(UTC)
            yesterday = content_claim.key("prod", moment - timedelta(days=1))
            trio.store.objects[yesterday] = content_claim.encode(Claim("verify-of-another", format_moment(moment)))

    trio.store.before = at_midnight
    with pytest.raises(Refused, match="verify-of-another asked"):
        trio.check()
    assert trio.asked() == []


def test_an_attempt_after_a_kill_goes_on_under_its_own_claim(trio: Trio) -> None:
    trio.door(THIRD).failures.once("hash_kv", EtcdOutcomeUnknown("context deadline exceeded"))
    with pytest.raises(EtcdOutcomeUnknown):
        trio.check()
    assert (len(trio.claims()), trio.outcomes()) == (1, [])
    assert trio.check()["outcome"] == "passed"
    assert len(trio.claims()) == 1


def test_an_answer_of_another_member_says_nothing(trio: Trio) -> None:
    trio.door(THIRD).hash_answer = HashKV(0xCD, -1, None, OTHER)
    with pytest.raises(EtcdAnswerInvalid, match=f"answered as member {hex_id(OTHER)}"):
        trio.check()
    assert trio.outcomes() == []


def test_damaged_bytes_are_no_difference_of_content(of_files: Trio) -> None:
    of_files.store.objects[of_files.manifest.data.key] = b"damaged"
    with pytest.raises(SnapshotInvalid):
        of_files.check()
    assert (of_files.asked(), of_files.claims(), of_files.outcomes()) == ([], [], [])


def test_too_little_room_for_the_copy_says_nothing(of_files: Trio) -> None:
    of_files.free_bytes = len(snapshot_bytes())
    with pytest.raises(NoSpace):
        of_files.check()
    assert of_files.outcomes() == []


def test_all_is_no_single_snapshot(trio: Trio) -> None:
    with pytest.raises(BadInput, match="for one snapshot"):
        trio.check(id="all")


def test_a_dry_run_says_who_would_stall_and_changes_nothing(trio: Trio) -> None:
    before = dict(trio.store.objects)
    plan = trio.plan()
    assert plan["asks"][-1] == f"member {hex_id(THIRD)} node-3"
    assert plan["stalls_db_bytes"] == STATUS.db_size_bytes
    assert trio.store.objects == before
    trio.check()
    assert [step.name for step in trio.steps.results] == plan["steps"]
    with pytest.raises(Refused, match="24 hours"):
        trio.plan()


def test_a_large_member_is_not_stalled(trio: Trio) -> None:
    trio.max_db_bytes = STATUS.db_size_bytes - 1
    with pytest.raises(Refused) as caught:
        trio.check()
    assert caught.value.rule == "content-too-large"


def test_members_other_than_the_cluster_lists_are_none(trio: Trio) -> None:
    trio.door(OWN).member_list = [member(OWN, 1), member(OTHER, 2)]
    with pytest.raises(Refused) as caught:
        trio.check()
    assert caught.value.rule == "content-no-spare"
