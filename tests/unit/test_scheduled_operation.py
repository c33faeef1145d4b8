"""The look and the scheduled snapshot over fakes: one claim in etcd, and never a snapshot less for want of one."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.domain import slots
from agent.domain import snapshot as snapshots
from agent.domain.request import format_moment
from agent.domain.slots import Rhythm, SlotRecord
from agent.errors import (
    AwsUnavailable,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    Interrupted,
    Refused,
    StoreError,
)
from agent.operations import newest, schedule, scheduled, slot_record, slot_view
from agent.operations.slot_view import SchedulePorts
from agent.operations.steps import Steps
from agent.ports import Failures as FailedBefore
from agent.ports import KeyValue
from tests.unit.fakes import OTHER, OWN, STATUS, THIRD, FakeKeys, FakeRequests, FakeStore, member
from tests.unit.snapshot_node import Node
from tests.unit.test_snapshot_domain import manifest

KEY = slot_record.KEY
RHYTHM = Rhythm(21600.0, 1800.0)
OWN_OP_ID = "snapshot-00000000000000aa"
ANSWER = {"snapshot_id": "20260131T120000Z-00000000", "stored": True}


def ago(age_s: float) -> str:
    return format_moment(datetime.now(UTC) - timedelta(seconds=age_s))


@dataclass
class Place:
    """A follower of three whose newest good snapshot is due."""

    node: Node
    keys: FakeKeys = field(default_factory=FakeKeys)
    own: FakeRequests = field(default_factory=FakeRequests)
    shared: bool = True
    taken: int = 0
    requested_at: str = field(default_factory=lambda: ago(0))

    @property
    def ports(self) -> SchedulePorts:
        return SchedulePorts(
            self.node.etcd, self.keys, self.node.store, self.node.outbox, self.own, RHYTHM, self.shared
        )

    def put_snapshot(self, age_s: float, op_id: str = "snapshot-0123456789abcdef") -> str:
        requested_at = ago(age_s)
        identifier = snapshots.snapshot_id(requested_at, op_id)
        made = manifest(requested_at=requested_at, snapshot_id=identifier, op_id=op_id)
        self.node.store.objects[snapshots.manifest_key("hourly", "prod", identifier)] = snapshots.encode(made)
        return identifier

    def put_record(self, age_s: float = 60, **changes: Any) -> SlotRecord:
        at_s = datetime.now(UTC).timestamp() - age_s
        made = SlotRecord(4, "done", "node-9", "", "1" * 32, "snapshot-of-node-9", at_s, at_s, "id", stored=True)
        made = msgspec.structs.replace(made, **changes)
        self.keys.put(KEY, slots.encode(made))
        return made

    @property
    def record(self) -> SlotRecord:
        return slots.decode(self.keys.values[KEY].value)

    def take(self) -> dict[str, Any]:
        self.taken += 1
        return dict(ANSWER)

    def run(self, attempt: int = 1, take: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
        job = self.node.job(attempt, op_id=OWN_OP_ID, requested_at=self.requested_at, params={"scheduled": "true"})
        return scheduled.run(job, self.ports, Steps(lambda progress: None), take or self.take)

    def look(self) -> dict[str, Any]:
        job = self.node.job(op_id="schedule-0000000000000000", operation="schedule")
        return schedule.run(job, self.ports, Steps(lambda progress: None))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(Node(tmp_path))
    made.put_snapshot(20000)
    return made


def test_who_claims_the_slot_takes_it_and_puts_down_what_came_of_it(place: Place) -> None:
    seen: list[SlotRecord] = []

    def take() -> dict[str, Any]:
        seen.append(place.record)
        return place.take()

    assert place.run(take=take) == ANSWER
    (claim,) = seen
    assert (claim.slot, claim.state, claim.node, claim.op_id) == (1, "claimed", "node-1", OWN_OP_ID)
    assert (claim.trace_id, claim.instance_id) == ("4" * 32, "i-0123456789abcdef0")
    done = place.record
    assert (done.slot, done.state, done.snapshot_id, done.stored) == (1, "done", ANSWER["snapshot_id"], True)
    assert format_moment(datetime.fromtimestamp(done.requested_at_s, UTC)) == place.requested_at
    assert place.keys.revision == 102  # two writes, no more


def test_the_next_slot_has_the_next_number_and_counts_those_that_were_missed(place: Place) -> None:
    place.node.store.objects.clear()
    place.put_snapshot(70000)
    place.put_record(70000, missed=2)
    place.run()
    assert (place.record.slot, place.record.missed) == (5, 5)


def test_who_comes_too_late_takes_nothing(place: Place) -> None:
    def other() -> None:
        place.keys.before_put = lambda: None
        place.put_record(0, slot=1, state="claimed")

    place.keys.before_put = other
    output = place.run()
    assert (output["due"], place.taken, place.record.node) == (False, 0, "node-9")


def test_what_another_node_takes_or_took_meanwhile_is_not_due_any_more(place: Place) -> None:
    place.put_record(60, state="claimed")
    assert place.run()["due"] is False
    place.put_record(60, state="done")
    place.put_snapshot(60)
    assert place.run()["due"] is False
    assert place.taken == 0


@pytest.mark.parametrize("call", ["get", "put", "put answered"])
@pytest.mark.parametrize("error", [EtcdError, EtcdUnavailable, EtcdOutcomeUnknown])
def test_a_slot_that_can_not_be_written_never_stops_a_snapshot(place: Place, call: str, error: type[EtcdError]) -> None:
    place.keys.failures.always(call, error("etcdserver: mvcc: database space exceeded"))
    assert place.run() == ANSWER
    assert place.taken == 1


def test_a_write_of_unknown_outcome_is_looked_up(place: Place) -> None:
    place.keys.failures.once("put answered", EtcdOutcomeUnknown("context deadline exceeded"))
    assert place.run() == ANSWER
    assert place.record.state == "done"

    def other() -> None:
        place.keys.before_put = lambda: None
        place.put_record(0, slot=2, state="claimed")

    place.node.store.objects.clear()
    place.put_snapshot(20000)
    place.put_record(20000)
    place.keys.before_put = other
    place.keys.failures.once("put", EtcdOutcomeUnknown("context deadline exceeded"))
    assert place.run()["due"] is False


def test_a_failure_leaves_the_slot_to_the_others_and_an_interruption_keeps_it(place: Place) -> None:
    def refuse() -> dict[str, Any]:
        raise Refused("no", rule="corrupt", hint="")

    with pytest.raises(Refused):
        place.run(take=refuse)
    assert place.record.state == "failed"

    def stop() -> dict[str, Any]:
        raise Interrupted("stop")

    with pytest.raises(Interrupted):
        place.run(take=stop)
    assert (place.record.state, place.record.slot) == ("claimed", 1)
    assert place.run(attempt=2) == ANSWER
    assert (place.record.state, place.record.slot) == ("done", 1)


def test_an_attempt_after_a_crash_finds_its_own_snapshot_and_says_so(place: Place) -> None:
    place.put_record(5, slot=1, state="claimed", op_id=OWN_OP_ID)
    requested_at = place.requested_at
    place.requested_at = requested_at
    identifier = snapshots.snapshot_id(requested_at, OWN_OP_ID)
    made = manifest(requested_at=requested_at, snapshot_id=identifier, op_id=OWN_OP_ID)
    place.node.store.objects[snapshots.manifest_key("hourly", "prod", identifier)] = snapshots.encode(made)
    assert place.run(attempt=2) == ANSWER
    assert place.record.state == "done"


def test_with_the_store_away_the_key_and_the_own_outbox_count(place: Place) -> None:
    place.node.store.failures.always("keys", StoreError("away"))
    place.put_record(60)
    assert place.look()["decision"] == "young"
    place.put_record(60, state="failed")
    looked = place.look()
    assert (looked["decision"], looked["asked"], looked["store_away"]) == ("due", True, "away")


def test_a_store_that_says_nothing_is_away_after_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()
    monkeypatch.setattr(FakeStore, "keys", lambda self, folder: silent.wait(30) and [])
    found = newest.look(place.node.job(), place.node.store, place.node.outbox, 1e9, patience_s=0.05)
    silent.set()
    assert isinstance(found.away, AwsUnavailable)


def test_a_young_snapshot_costs_no_question_to_etcd(place: Place) -> None:
    place.put_snapshot(100)
    looked = place.look()
    assert (looked["decision"], looked["asked"], place.node.etcd.failures.calls) == ("young", False, [])
    assert 16000 < looked["due_in_s"] <= 16200 - 99


def test_a_look_that_finds_it_due_asks_under_its_own_trace(place: Place) -> None:
    looked = place.look()
    (request,) = place.own.asked
    assert (request.trace_id, request.source, request.params) == ("4" * 32, "node", {"scheduled": "true"})
    assert request.op_id == looked["snapshot_op_id"]
    assert looked["look_again_in_s"] == RHYTHM.look_s


def test_the_leader_waits_for_the_others_and_an_own_failure_for_a_while(place: Place) -> None:
    place.node.store.objects.clear()
    place.put_snapshot(16205)
    place.node.etcd.statuses = [replace(STATUS, leader=OWN)]
    assert place.look()["decision"] == "order"
    place.node.etcd.statuses = [replace(STATUS, leader=OTHER)]
    op_id = place.look()["snapshot_op_id"]
    place.own.failed[op_id] = FailedBefore(1, ago(5))
    assert place.look()["decision"] == "failed"


def test_only_started_voters_have_a_turn(place: Place) -> None:
    place.node.etcd.member_list = [member(OWN, 1), member(OTHER, 2), member(THIRD, 3, is_learner=True)]
    view = slot_view.look(place.node.job(), place.ports).view
    assert (view.own, view.leader, view.voters) == (OWN, OTHER, (OWN, OTHER))


def test_an_etcd_that_is_silent_is_told_and_the_age_is_told_all_the_same(place: Place) -> None:
    place.node.etcd.failures.always("status", EtcdUnavailable("refused"))
    looked = place.look()
    assert (looked["decision"], looked["asked"]) == ("no-member", False)
    assert looked["age_s"] in range(19990, 20100)


def test_in_a_folder_of_its_own_each_node_keeps_its_own_without_a_word_to_etcd(place: Place) -> None:
    place.shared = False
    assert place.run() == ANSWER
    assert place.keys.failures.calls == []


def test_a_missed_slot_is_told_with_the_metrics(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.node.store.objects.clear()
    place.put_snapshot(50000)
    assert place.look()["missed"] == 2
    lines = {record.__dict__.get("event"): record.__dict__ for record in caplog.records}
    assert lines["schedule.missed"]["missed"] == 2
    metric = lines["metrics.schedule"]
    assert metric["MissedSlots"] == 2
    assert 50000 <= metric["SnapshotAgeSeconds"] < 50100
    json.dumps(metric["emf"])


def test_failed_tries_at_a_missed_slot_do_not_count_it_again(place: Place) -> None:
    place.node.store.objects.clear()
    place.put_snapshot(30000)
    place.put_record(30000, missed=2)

    def fail() -> dict[str, Any]:
        raise StoreError("no")

    for _ in range(3):
        with pytest.raises(StoreError):
            place.run(take=fail)
    place.run()
    assert (place.record.slot, place.record.missed) == (5, 3)


def test_what_was_stored_between_the_listing_and_the_key_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    get = place.keys.get

    def get_later(key: str) -> KeyValue:
        place.put_snapshot(60)
        place.put_record(60)
        return get(key)

    monkeypatch.setattr(place.keys, "get", get_later)
    assert place.run()["due"] is False
    assert place.taken == 0


def test_a_stored_snapshot_that_is_gone_or_damaged_by_now_is_due_again(place: Place) -> None:
    place.put_record(60)
    assert place.run() == ANSWER


def test_a_key_of_an_impossible_time_in_the_store_stops_nothing(place: Place) -> None:
    place.node.store.objects["hourly/manifest/prod/20261399T000000Z-00000000.json"] = b"{}"
    assert place.look()["decision"] == "due"
