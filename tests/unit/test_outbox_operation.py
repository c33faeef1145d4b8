"""What the store does not take stays on the node, and is shipped under its own trace when the store is back."""

import errno
import hashlib
import itertools
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.adapters.outbox import OutboxFolder
from agent.domain import request as requests
from agent.domain import snapshot as snapshots
from agent.domain.outbox import Bounds, Draft
from agent.errors import (
    AwsRefused,
    AwsUnavailable,
    DeadlineExceeded,
    KeyTaken,
    NoSpace,
    SnapshotInvalid,
    StoreError,
    UploadLimitTooLow,
)
from agent.operations import catalogue, leftovers, outbox, sending
from agent.operations.steps import Job, Steps
from tests.sandbox.processes import wait_until
from tests.unit.fakes import snapshot_bytes
from tests.unit.snapshot_node import OP_ID, REQUESTED_AT, Node, kept

IDENTIFIER = snapshots.snapshot_id(REQUESTED_AT, OP_ID)
STORE_FAILURES = [
    ("keys", AwsUnavailable("away")),
    ("agree", AwsUnavailable("away")),
    ("put", StoreError("denied")),
    ("put", AwsRefused("denied", aws_code="AccessDenied", hint="the role")),
    ("put", NoSpace("disk full")),
    ("put", KeyTaken("taken")),
    ("put_if_absent", AwsUnavailable("away")),
    ("put_if_absent", NoSpace("disk full")),
]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def ship(of: Node, **changes: Any) -> dict[str, Any]:
    """As the daemon's own request does it, under a trace of its own."""
    request = requests.make(
        op_id="outbox-0123456789abcdef", operation="outbox", trace_id="9" * 32, requested_at="2026-02-01T00:00:00Z"
    )
    job = Job(request, 1, of.work, "prod", "node-1", "", "1.0", **{"time_left_s": of.time_left_s, **changes})
    job.folder.mkdir(parents=True, exist_ok=True)
    of.steps = Steps(lambda progress: None)
    try:
        with trace.bound(trace_id=request.trace_id, op_id=request.op_id):
            return outbox.run(job, outbox.ShipPorts(of.store, of.outbox, of.upload_limit_bytes_per_s), of.steps)
    finally:
        leftovers.remove_attempt(job.folder)


def away(of: Node) -> None:
    of.store.failures.always("keys", AwsUnavailable("away"))


def back(of: Node) -> None:
    of.store.failures = type(of.store.failures)()


@pytest.mark.parametrize("call, error", STORE_FAILURES, ids=lambda value: str(value)[:24])
def test_whatever_the_store_does_not_take_is_kept_and_shipped_later(node: Node, call: str, error: Exception) -> None:
    node.store.failures.always(call, error)
    output = node.run()
    assert (output["stored"], output["snapshot_id"]) == (False, IDENTIFIER)
    assert output["why_not_stored"]["message"] == str(error)
    assert output["checks"] == {"trailer": "passed", "structure": "passed", "fresh": "passed"}
    assert node.steps.results[-1].name == "keep"
    assert not list(node.work.iterdir())
    back(node)
    assert ship(node)["shipped"] == [IDENTIFIER]
    (backup,) = catalogue.backups(node.store, "prod")
    assert backup.is_good
    assert (backup.manifest.trace_id, backup.manifest.op_id) == ("4" * 32, OP_ID)
    assert node.store.metadata[backup.manifest.data.key]["trace-id"] == "4" * 32
    assert node.outbox.kept() == []
    assert not list(node.work.iterdir())


def test_the_same_request_again_answers_what_is_kept(node: Node) -> None:
    away(node)
    first = node.run()
    again = node.run(attempt=2)
    assert (again["stored"], again["kept"]) == (False, first["kept"])
    assert len(node.outbox.kept()) == 1


def test_what_is_in_the_store_by_then_is_not_stored_twice(node: Node) -> None:
    away(node)
    node.run()
    back(node)
    other = Node(node.work.with_name("other"), store=node.store)
    other.run()
    before = dict(node.store.objects)
    assert ship(node)["shipped"] == [IDENTIFIER]
    assert node.store.objects == before
    assert node.outbox.kept() == []


def test_a_store_that_is_still_away_keeps_all_of_it(node: Node) -> None:
    away(node)
    for hour in range(3):
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    with pytest.raises(AwsUnavailable):
        ship(node)
    assert len(node.outbox.kept()) == 3
    back(node)
    assert len(ship(node)["shipped"]) == 3
    assert len(catalogue.backups(node.store, "prod")) == 3


def test_what_is_damaged_on_the_nodes_disk_is_never_stored_and_stops_no_other(node: Node) -> None:
    away(node)
    for hour in range(3):
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    first, second, third = (one.snapshot_id for one in node.outbox.kept())
    data = node.outbox._data(first)
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    node.outbox._draft(second).write_bytes(b"{")
    back(node)
    assert ship(node)["shipped"] == [third]
    assert [one.manifest.snapshot_id for one in catalogue.backups(node.store, "prod")] == [third]
    assert len([key for key in kept(node) if "/data/" in key]) == 1
    assert node.outbox.kept() == []


def test_what_is_damaged_in_the_store_costs_nothing_that_is_kept_and_stops_no_other(node: Node) -> None:
    away(node)
    for hour in range(2):
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    first, second = (one.snapshot_id for one in node.outbox.kept())
    back(node)
    node.store.objects[snapshots.class_key("prod", first)] = b"yearly"
    with pytest.raises(SnapshotInvalid, match="yearly"):
        ship(node)
    assert [one.snapshot_id for one in node.outbox.kept()] == [first]
    assert [one.manifest.snapshot_id for one in catalogue.backups(node.store, "prod")] == [second]
    del node.store.objects[snapshots.class_key("prod", first)]
    assert ship(node)["shipped"] == [first]


def test_the_oldest_makes_room_and_the_newest_good_one_never(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    away(node)
    folder = node.work.with_name(f"{node.work.name}-outbox")
    monkeypatch.setattr(Node, "outbox", property(lambda self: OutboxFolder(folder, Bounds(2, 10**9))))
    taken = [
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")["snapshot_id"]
        for hour in range(4)
    ]
    assert [one.snapshot_id for one in node.outbox.kept()] == taken[2:]


def test_a_full_outbox_of_later_times_keeps_what_was_just_taken(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a clock that was ahead, and was set right, leaves it."""
    away(node)
    folder = node.work.with_name(f"{node.work.name}-outbox")
    monkeypatch.setattr(Node, "outbox", property(lambda self: OutboxFolder(folder, Bounds(2, 10**9))))
    taken = [
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")["snapshot_id"]
        for hour in (7, 8, 1)
    ]
    assert [one.snapshot_id for one in node.outbox.kept()] == [taken[2], taken[1]]


def test_an_emergency_snapshot_is_kept_as_one(node: Node) -> None:
    away(node)
    node.run(params={"emergency": "true"})
    back(node)
    ship(node)
    (backup,) = catalogue.backups(node.store, "prod")
    assert (backup.manifest.retention_class, backup.is_good) == ("emergency", False)


def test_no_room_for_it_on_the_node_either_is_told_as_that(node: Node) -> None:
    away(node)
    node.work.with_name(f"{node.work.name}-outbox").write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="outbox"):
        node.run()


def test_time_that_is_over_ships_nothing_more(node: Node) -> None:
    away(node)
    node.run()
    back(node)
    with pytest.raises(DeadlineExceeded):
        ship(node, time_left_s=lambda: -1.0)
    assert len(node.outbox.kept()) == 1


def test_a_store_that_hangs_until_little_time_is_left_is_not_waited_for(node: Node) -> None:
    hangs, left_s = threading.Event(), [60.0]

    def hang(call: str, key: str) -> None:
        if call == "put":
            left_s[0] = 10.0
            hangs.wait(300)

    node.store.before = hang
    node.time_left_s = lambda: left_s[0]
    output = node.run()
    hangs.set()
    assert (output["stored"], "in time" in output["why_not_stored"]["message"]) == (False, True)
    assert len(node.outbox.kept()) == 1


def test_an_operation_of_little_time_is_stored_all_the_same(node: Node) -> None:
    node.time_left_s = lambda: 20.0
    assert node.run()["stored"]
    assert node.outbox.kept() == []


def test_a_store_that_takes_nothing_more_is_not_waited_for_until_the_end(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", 0.3)
    hangs = threading.Event()

    def hang(call: str, key: str) -> None:
        if call == "put":
            hangs.wait(300)

    node.store.before = hang
    output = node.run()
    hangs.set()
    assert (output["stored"], "in time" in output["why_not_stored"]["message"]) == (False, True)


def test_a_manifest_that_hangs_until_little_time_is_left_is_not_waited_for_and_not_doubled(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "GIVE_UP_S", 0.1)
    hangs, left_s = threading.Event(), [60.0]

    def hang(call: str, key: str) -> None:
        if "/manifest/" in key:
            left_s[0] = 10.0
            hangs.wait(300)

    node.store.before = hang
    node.time_left_s = lambda: left_s[0]
    output = node.run()
    assert (output["stored"], "in time" in output["why_not_stored"]["message"]) == (False, True)
    hangs.set()
    node.store.before = lambda call, key: None
    left_s[0] = 60.0
    wait_until(lambda: any("/manifest/" in key for key in node.store.objects), "the manifest is never written")
    before = dict(node.store.objects)
    assert ship(node)["shipped"] == [IDENTIFIER]
    assert node.store.objects == before


def test_a_journal_that_has_no_room_costs_no_backup(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(journal: leftovers.Journal, key: str, upload_id: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "upload.json")

    monkeypatch.setattr(leftovers.Journal, "begin", full)
    output = node.run()
    assert (output["stored"], output["why_not_stored"]["code"]) == (False, "no_space")
    monkeypatch.undo()
    assert ship(node)["shipped"] == [IDENTIFIER]


def test_no_room_for_the_draft_leaves_no_data_either(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(box: OutboxFolder, snapshot_id: str, draft: Draft) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "draft")

    away(node)
    monkeypatch.setattr(OutboxFolder, "commit", full)
    with pytest.raises(OSError, match="No space"):
        node.run()
    assert list(node.outbox._folder.iterdir()) == []


def test_what_a_kill_left_in_the_outbox_goes_with_the_next_snapshot(node: Node) -> None:
    node.outbox.write("20260101T000000Z-01234567", iter([b"data"]))
    (half,) = node.outbox._folder.iterdir()
    node.run()
    assert half.exists()  # it may be at work for an hour
    os.utime(half, (0, 0))
    node.run(attempt=2)
    assert not half.exists()


def test_an_outbox_that_can_not_be_read_stops_no_snapshot(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(box: OutboxFolder) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "outbox")

    monkeypatch.setattr(OutboxFolder, "sweep", unreadable)
    assert node.run()["stored"]


def test_a_file_that_does_not_read_back_as_it_was_verified_is_not_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(node)
    write = OutboxFolder.write

    def rots(box: OutboxFolder, snapshot_id: str, chunks: Any) -> tuple[int, str]:
        (path,) = node.work.rglob("snapshot.db")
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        return write(box, snapshot_id, chunks)

    monkeypatch.setattr(OutboxFolder, "write", rots)
    with pytest.raises(SnapshotInvalid, match="read back"):
        node.run()
    assert list(node.outbox._folder.iterdir()) == []


def test_a_late_one_holds_the_newest_data_and_stays_until_the_next_comes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(node)
    folder = node.work.with_name(f"{node.work.name}-outbox")
    monkeypatch.setattr(Node, "outbox", property(lambda self: OutboxFolder(folder, Bounds(1, 10**9))))
    newest = node.run()["snapshot_id"]
    late = node.run(op_id="snapshot-late", requested_at="2026-01-30T12:00:00Z")["snapshot_id"]
    assert [one.snapshot_id for one in node.outbox.kept()] == [late, newest]
    following = node.run(op_id="snapshot-next", requested_at="2026-02-01T12:00:00Z")["snapshot_id"]
    assert [one.snapshot_id for one in node.outbox.kept()] == [following]


def test_one_that_can_not_be_read_on_this_node_stays_and_stops_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(node)
    for hour in range(2):
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    first, second = (one.snapshot_id for one in node.outbox.kept())
    back(node)
    open_ = OutboxFolder.open

    def failing_disk(box: OutboxFolder, snapshot_id: str) -> Any:
        if snapshot_id == first:
            raise OSError(errno.EIO, "Input/output error", first)
        return open_(box, snapshot_id)

    monkeypatch.setattr(OutboxFolder, "open", failing_disk)
    with pytest.raises(OSError, match="Input/output"):
        ship(node)
    assert [one.snapshot_id for one in node.outbox.kept()] == [first]
    assert [one.manifest.snapshot_id for one in catalogue.backups(node.store, "prod")] == [second]


def test_a_store_that_never_says_that_it_has_it_gets_one_object_of_it(node: Node) -> None:
    """What is kept goes under the same key each time, which a store that has it by then does not take again."""
    away(node)
    node.run()
    back(node)
    node.store.failures.always("put_if_absent", AwsUnavailable("away"))
    keys = []
    node.store.before = lambda call, key: keys.append(key) if call == "put" else None
    for _ in range(2):
        with pytest.raises(AwsUnavailable):
            ship(node)
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_limit_that_can_not_work_is_told_early_keeps_the_snapshot_and_sends_nothing(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.upload_limit_bytes_per_s = 1  # 4096 bytes of database, and 60 s
    with pytest.raises(UploadLimitTooLow, match="verified and kept as") as caught:
        node.run()
    assert "store.upload_limit_bytes_per_s" in caught.value.hint
    assert kept(node) == set()
    assert [one.snapshot_id for one in node.outbox.kept()] == [IDENTIFIER]
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events.count("upload.limit_too_low") == 1
    assert events.index("upload.limit_too_low") < events.index("outbox.kept")
    with pytest.raises(UploadLimitTooLow, match="verified and kept as"):  # after a crash before the result
        node.run(attempt=2)
    assert len(node.outbox.kept()) == 1


def test_a_limit_that_turns_out_too_low_ends_in_time_and_keeps_the_snapshot(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not compress: the first look can not know it."""
    node.etcd.content = incompressible()
    node.upload_limit_bytes_per_s = 100
    clock = itertools.chain([60.0] * 12, itertools.repeat(10.0))
    node.time_left_s = lambda: next(clock)
    monkeypatch.setattr(sending, "WAIT_S", 0.01)
    with pytest.raises(UploadLimitTooLow, match="verified and kept as") as caught:
        node.run()
    assert "100 bytes/s" in caught.value.message
    assert len(node.outbox.kept()) == 1
    assert kept(node) == set()


def test_what_goes_at_the_limit_is_shipped_and_what_never_will_is_named(node: Node) -> None:
    away(node)
    contents = {0: snapshot_bytes(), 1: incompressible(), 2: snapshot_bytes()}
    for hour, content in contents.items():
        node.etcd.content = content
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    back(node)
    node.upload_limit_bytes_per_s = 1000
    with pytest.raises(UploadLimitTooLow, match="at 1,000 bytes/s"):
        ship(node, time_left_s=lambda: 30.0)
    assert [one.size_bytes > 30_000 for one in node.outbox.kept()] == [True]
    node.upload_limit_bytes_per_s = 0
    assert len(ship(node)["shipped"]) == 1
    assert len(catalogue.backups(node.store, "prod")) == 3


def test_what_the_limit_leaves_no_time_for_waits_for_the_next_operation(node: Node) -> None:
    away(node)
    for hour in range(2):
        node.run(op_id=f"snapshot-{hour}", requested_at=f"2026-01-31T1{hour}:00:00Z")
    back(node)
    first = node.outbox.kept()[0].size_bytes
    node.upload_limit_bytes_per_s = first  # one second each
    clock = itertools.chain([60.0] * 3, itertools.repeat(0.5))
    assert len(ship(node, time_left_s=lambda: next(clock))["shipped"]) == 1
    assert len(ship(node)["shipped"]) == 1


def incompressible() -> bytes:
    """A whole file that stays as large as it is."""
    body = b"key and" + random.Random(1).randbytes(512 * 100 - 7)
    return body + hashlib.sha256(body).digest()
