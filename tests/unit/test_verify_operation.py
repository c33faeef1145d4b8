"""The operation `verify`: what lies in the store is read whole and compared, and the outcome is on record."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.adapters.outbox import OutboxFolder
from agent.domain import request as requests
from agent.domain import snapshot as snapshots
from agent.domain.outbox import Bounds
from agent.errors import (
    AwsUnavailable,
    CommandFailed,
    CommandKilled,
    DeadlineExceeded,
    Interrupted,
    NoSpace,
    SnapshotInvalid,
    SnapshotNotFound,
)
from agent.operations import catalogue, compression, leftovers, snapshot, verify
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from tests.unit.fakes import FakeEtcd, FakeStore, FakeTool, snapshot_bytes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Node:
    """A node whose store holds the snapshots that a test made."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.store, self.tool = FakeStore(), FakeTool()
        self.free_bytes = 10**9
        self.time_left_s = 60.0
        self.steps = Steps(lambda progress: None)

    @property
    def outbox(self) -> OutboxFolder:
        return OutboxFolder(self.work.with_name("outbox"), Bounds(8, 10**9))

    def take(self, number: int) -> snapshots.Manifest:
        requested_at = f"2026-01-{number:02}T12:00:00Z"
        job = self.job(f"snapshot-{number}", "snapshot", {}, requested_at)
        ports = SnapshotPorts(FakeEtcd(), FakeTool(), self.store, lambda folder: 10**9, self.outbox)
        identifier = snapshot.run(job, ports, Steps(lambda progress: None))["snapshot_id"]
        leftovers.remove_attempt(job.folder)
        return catalogue.resolve(self.store, "prod", identifier).manifest

    def verify(self, wanted: str = "latest") -> dict[str, Any]:
        job = self.job("verify-1", "verify", {"id": wanted}, "2026-02-01T12:00:00Z")
        self.steps = Steps(lambda progress: None)
        try:
            ports = SnapshotPorts(FakeEtcd(), self.tool, self.store, lambda folder: self.free_bytes, self.outbox)
            return verify.run(job, ports, self.steps)
        finally:
            assert not list(job.folder.glob("*.db"))
            leftovers.remove_attempt(job.folder)

    def job(self, op_id: str, operation: str, params: dict[str, str], requested_at: str) -> Job:
        request = requests.make(
            op_id=op_id, operation=operation, params=params, trace_id="4" * 32, requested_at=requested_at
        )
        job = Job(request, 1, self.work, "prod", "node-1", "", "1.0", time_left_s=lambda: self.time_left_s)
        job.folder.mkdir(parents=True)
        return job

    def records(self) -> list[snapshots.Verification]:
        found = catalogue.backups(self.store, "prod", damaged=[])
        return [record for backup in found for record in backup.verifications]

    def copies(self, manifest: snapshots.Manifest, count: int) -> None:
        """Backups of their own with the same data, each an hour older than the one before."""
        for number in range(count):
            identifier = f"2025{1 + number // 24 // 28:02}{1 + number // 24 % 28:02}T{number % 24:02}0000Z-{number:08x}"
            made = msgspec.structs.replace(
                manifest, snapshot_id=identifier,
                data=msgspec.structs.replace(
                    manifest.data, key=snapshots.data_key(manifest.retention_class, "prod", identifier, "0" * 8)
                ),
            )  # fmt: skip
            self.store.objects[made.data.key] = self.store.objects[manifest.data.key]
            key = snapshots.manifest_key(made.retention_class, "prod", identifier)
            self.store.objects[key] = snapshots.encode(made)

    def replace_data(self, manifest: snapshots.Manifest, content: bytes, *, told: bool = False) -> None:
        """Other bytes under the key; `told`, the manifest holds their checksum."""
        self.store.objects[manifest.data.key] = content
        if told:
            data = msgspec.structs.replace(
                manifest.data, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
            )
            key = snapshots.manifest_key(manifest.retention_class, "prod", manifest.snapshot_id)
            self.store.objects[key] = snapshots.encode(msgspec.structs.replace(manifest, data=data))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def packed(raw: bytes, folder: Path) -> bytes:
    path = folder / "raw"
    path.write_bytes(raw)
    content = b"".join(compression.compressed([path.read_bytes()]))
    path.unlink()
    return content


def test_a_right_snapshot_is_on_record_as_verified(node: Node) -> None:
    manifest = node.take(1)
    answer = node.verify()
    assert [(row["snapshot_id"], row["passed"]) for row in answer["verified"]] == [(manifest.snapshot_id, True)]
    (record,) = node.records()
    assert (record.passed, record.op_id, record.trace_id, record.node) == (True, "verify-1", "4" * 32, "node-1")
    assert [step.name for step in node.steps.results] == ["find", "download", "verify", "record"]
    assert not list(node.work.iterdir())


def test_latest_is_the_newest_good_one_and_all_is_every_one(node: Node) -> None:
    taken = [node.take(number).snapshot_id for number in (1, 2, 3)]
    assert [row["snapshot_id"] for row in node.verify("latest")["verified"]] == taken[-1:]
    assert [row["snapshot_id"] for row in node.verify(taken[0])["verified"]] == taken[:1]
    assert [row["snapshot_id"] for row in node.verify("all")["verified"]] == taken[::-1]


@pytest.mark.parametrize("wanted, why", [("latest", "no good snapshot"), ("20260101T120000Z-01234567", "no snapshot")])
def test_what_is_not_there_is_not_found(node: Node, wanted: str, why: str) -> None:
    with pytest.raises(SnapshotNotFound, match=why):
        node.verify(wanted)


def test_damage_is_told_recorded_and_ends_its_being_good(node: Node) -> None:
    older, newer = node.take(1), node.take(2)
    content = bytearray(node.store.objects[newer.data.key])
    content[len(content) // 2] ^= 1
    node.replace_data(newer, bytes(content))
    with pytest.raises(SnapshotInvalid, match=f"1 of 1 snapshots are damaged: {newer.snapshot_id}"):
        node.verify("latest")
    assert [record.passed for record in node.records()] == [False]
    assert catalogue.resolve(node.store, "prod", "latest").manifest == older
    assert not list(node.work.iterdir())


def damaged_content(kind: str, content: bytes, folder: Path) -> bytes:
    raw = snapshot_bytes()
    return {
        "cut": content[:-1],
        "empty": b"",
        "garbage": b"\0" * 100,
        "with a tail": content + b"tail",
        "another frame behind it": content + packed(b"", folder),
        "unpacks to more": packed(raw + raw, folder),
        "unpacks to less": packed(raw[:512], folder),
        "another snapshot": packed(snapshot_bytes(fill=b"key and others "), folder),
        "no whole pages": packed(raw[:-1], folder),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "cut", "empty", "garbage", "with a tail", "another frame behind it", "unpacks to more", "unpacks to less",
        "another snapshot", "no whole pages",
    ],
)  # fmt: skip
@pytest.mark.parametrize("told", [True, False])
def test_other_bytes_are_found_even_where_their_checksum_is_in_the_manifest(
    node: Node, tmp_path_factory: pytest.TempPathFactory, kind: str, told: bool
) -> None:
    manifest = node.take(1)
    content = damaged_content(kind, node.store.objects[manifest.data.key], tmp_path_factory.mktemp("raw"))
    node.replace_data(manifest, content, told=told)
    with pytest.raises(SnapshotInvalid):
        node.verify(manifest.snapshot_id)
    assert [record.passed for record in node.records()] == [False]


def test_the_same_snapshot_packed_in_other_bytes_is_not_what_was_stored(node: Node) -> None:
    manifest = node.take(1)
    content = node.store.objects[manifest.data.key]
    raw = b"".join(compression.decompressed(iter([content])))
    other = zstd.compress(raw, 19)
    assert len(other) < len(content)
    node.replace_data(manifest, other)
    with pytest.raises(SnapshotInvalid, match=f"the {len(other)} stored bytes have the sha256"):
        node.verify(manifest.snapshot_id)


@pytest.mark.parametrize("kind", ["garbage", "another snapshot", "no whole pages"])
def test_the_tool_is_not_asked_about_bytes_that_are_wrong_already(
    node: Node, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    manifest = node.take(1)
    content = damaged_content(kind, node.store.objects[manifest.data.key], tmp_path_factory.mktemp("raw"))
    node.replace_data(manifest, content, told=True)
    with pytest.raises(SnapshotInvalid):
        node.verify(manifest.snapshot_id)
    assert node.tool.failures.calls == []


def test_what_the_way_damaged_once_is_read_again_and_not_on_record_as_damaged(node: Node) -> None:
    manifest = node.take(1)
    right = node.store.objects[manifest.data.key]
    answers = [right[:-1], right]

    def altered(call: str, key: str) -> None:
        if call == "open" and key == manifest.data.key:
            node.store.objects[key] = answers.pop(0)

    node.store.before = altered
    node.verify(manifest.snapshot_id)
    assert answers == []
    assert [record.passed for record in node.records()] == [True]


def test_lost_data_is_damage_too(node: Node) -> None:
    manifest = node.take(1)
    del node.store.objects[manifest.data.key]
    with pytest.raises(SnapshotInvalid, match="does not exist"):
        node.verify(manifest.snapshot_id)
    assert [record.passed for record in node.records()] == [False]


def test_another_revision_than_the_manifest_says_is_damage(node: Node) -> None:
    node.take(1)
    node.tool.revision = 20
    with pytest.raises(SnapshotInvalid, match="holds revision 20, its manifest says 21"):
        node.verify()


def test_of_all_every_one_is_verified_although_some_are_damaged(node: Node) -> None:
    first, second, third = (node.take(number) for number in (1, 2, 3))
    node.replace_data(second, b"")
    node.store.objects[snapshots.manifest_key(third.retention_class, "prod", third.snapshot_id)] = b"{"
    with pytest.raises(SnapshotInvalid, match="2 of 3 snapshots are damaged") as caught:
        node.verify("all")
    assert second.snapshot_id in caught.value.message
    assert third.snapshot_id in caught.value.message
    assert {record.snapshot_id: record.passed for record in node.records()} == {
        first.snapshot_id: True, second.snapshot_id: False,
    }  # fmt: skip


def length(node: Node, error: SnapshotInvalid | None, output: dict[str, Any]) -> int:
    """Of the result, as SSM gets it."""
    told = requests.ErrorResult(error.code, error.message, error.hint) if error else None
    result = requests.Result(
        "verify-1", 1, "4" * 32, "verify", "failed" if error else "succeeded", 1, "", "", tuple(node.steps.results),
        output, told,
    )  # fmt: skip
    return len(msgspec.json.encode(result))


def test_the_result_of_all_does_not_grow_with_the_store(node: Node) -> None:
    node.copies(node.take(1), 300)
    answer = node.verify("all")
    assert (answer["passed"], len(answer["verified"])) == (301, verify.MOST_NAMED)
    assert answer["verified"][0]["snapshot_id"].startswith("20260101T")
    assert len(node.records()) == 301
    assert length(node, None, answer) < 4_000
    for key in node.store.objects:
        if "/data/" in key:
            node.store.objects[key] = b"x" * 50
    with pytest.raises(SnapshotInvalid, match="301 of 301 snapshots are damaged") as caught:
        node.verify("all")
    assert f"and {301 - verify.MOST_NAMED} more" in caught.value.message
    assert length(node, caught.value, {}) < 12_000
    assert sum(not record.passed for record in node.records()) == 301


def test_of_all_those_come_first_that_were_not_verified_for_the_longest_time(node: Node) -> None:
    first, second, third = (node.take(number).snapshot_id for number in (1, 2, 3))
    node.verify(third)
    found: list[str] = []

    def opened(call: str, key: str) -> None:
        if call == "open":
            found.append(key)

    node.store.before = opened
    node.verify("all")
    assert [next(one for one in (first, second, third) if one in key) for key in found] == [second, first, third]


@pytest.mark.parametrize("damaged", [True, False])
def test_one_that_can_not_be_verified_does_not_hide_the_others(node: Node, damaged: bool) -> None:
    first, second, third = (node.take(number) for number in (1, 2, 3))
    if damaged:
        node.replace_data(first, b"")
    node.tool.failures.once("tool_status", CommandKilled("no memory", returncode=-9, stderr_tail=""))
    with pytest.raises(SnapshotInvalid if damaged else CommandKilled) as caught:
        node.verify("all")
    assert {record.snapshot_id: record.passed for record in node.records()} == {
        first.snapshot_id: not damaged, second.snapshot_id: True,
    }  # fmt: skip
    assert not damaged or "1 of 3 snapshots are damaged" in caught.value.message
    assert not damaged or "1 could not be checked: no memory" in caught.value.message
    assert third.snapshot_id not in {record.snapshot_id for record in node.records()}


def test_a_store_that_goes_away_ends_the_round_and_what_was_found_is_told(node: Node) -> None:
    older, newer = node.take(1), node.take(2)
    node.replace_data(newer, b"")

    def away(call: str, key: str) -> None:
        if call == "open" and key == older.data.key:
            raise AwsUnavailable("away")

    node.store.before = away
    with pytest.raises(SnapshotInvalid, match=f"1 of 2 snapshots are damaged: {newer.snapshot_id}") as caught:
        node.verify("all")
    assert "1 could not be checked: away" in caught.value.message


@pytest.mark.parametrize(
    "part, call, error",
    [
        ("store", "open", AwsUnavailable("away")),
        ("store", "keys", AwsUnavailable("away")),
        ("tool", "tool_status", CommandFailed("killed", returncode=-9, stderr_tail="")),
        ("tool", "tool_status", Interrupted("stopping")),
        ("store", "open", RuntimeError("a defect")),
    ],
)
def test_what_hinders_the_verifying_says_nothing_about_the_snapshot(
    node: Node, part: str, call: str, error: Exception
) -> None:
    node.take(1)
    getattr(node, part).failures.always(call, error)
    with pytest.raises(type(error)):
        node.verify()
    node.store.failures = FakeStore().failures
    assert node.records() == []
    assert catalogue.resolve(node.store, "prod", "latest").is_good


def test_too_little_room_or_time_says_nothing_about_the_snapshot(node: Node) -> None:
    node.take(1)
    node.free_bytes = len(snapshot_bytes()) - 1
    with pytest.raises(NoSpace):
        node.verify()
    node.free_bytes, node.time_left_s = 10**9, -1.0
    with pytest.raises(DeadlineExceeded):
        node.verify()
    assert node.records() == []
