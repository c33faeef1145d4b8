"""The operation `snapshot`: one backup or nothing, refusals with their rule, and one manifest whatever happens."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.domain import snapshot as snapshots
from agent.domain.cluster import Alarm, AlarmKind
from agent.errors import (
    AgentError,
    AwsUnavailable,
    CommandTimeout,
    DeadlineExceeded,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    Interrupted,
    KeyTaken,
    NoSpace,
    SnapshotInvalid,
)
from agent.operations import catalogue, committing, compression, leftovers, snapshot
from agent.operations.following import Following
from agent.operations.steps import Steps
from tests.unit.fakes import (
    ENDPOINT,
    OTHER,
    OWN,
    STATUS,
    THIRD,
    FakeStore,
    cut_off,
    member,
    snapshot_bytes,
)
from tests.unit.snapshot_node import OP_ID, REQUESTED_AT, Node, kept, nothing_is_left, refused

ALL_STEPS = ["preflight", "save", "verify", "store", "manifest"]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_snapshot_is_data_and_last_its_manifest(node: Node) -> None:
    order: list[str] = []
    node.store.before = lambda call, key: order.append(f"{call} {key.split('/')[1]}")
    output = node.run()
    (manifest,) = node.manifests()
    assert order == ["put_if_absent prod", "put data", "put_if_absent manifest"]
    assert kept(node) == {
        manifest.data.key, snapshots.manifest_key("monthly", "prod", manifest.snapshot_id),
    }  # fmt: skip
    assert [step.name for step in node.steps.results] == ALL_STEPS
    assert (output["snapshot_id"], output["already"], output["stored"]) == (manifest.snapshot_id, False, True)
    assert output["checks"] == {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": "passed"}
    assert not list(node.work.iterdir())


def test_the_manifest_says_all_that_a_restore_must_know(node: Node) -> None:
    node.run()
    (manifest,) = node.manifests()
    assert manifest.snapshot_id == snapshots.snapshot_id(REQUESTED_AT, OP_ID)
    assert (manifest.etcd_cluster_id, manifest.member_id) == ("f" * 16, "8000000000000001")
    assert (manifest.revision, manifest.hash, manifest.total_key, manifest.live_keys) == (21, 99, 26, 7)
    assert (manifest.trace_id, manifest.op_id, manifest.node) == ("4" * 32, OP_ID, "node-1")
    assert manifest.fingerprints == {"etcd_ca": "5" * 64}
    raw = b"".join(compression.decompressed(iter([node.store.objects[manifest.data.key]])))
    assert raw == node.etcd.content
    assert manifest.raw_size_bytes == len(raw)
    assert {check.note for check in manifest.checks if check.level == "fresh"} == {"confirmed by node-2"}
    for key in node.store.objects:
        assert node.store.metadata[key] == {"trace-id": "4" * 32, "op-id": OP_ID, "cluster": "prod"}


STEP_FAILURES = [
    ("etcd", "status", EtcdUnavailable("away"), "preflight"),
    ("etcd", "members", EtcdOutcomeUnknown("timed out"), "preflight"),
    ("etcd", "alarms", EtcdError("refused"), "preflight"),
    ("etcd", f"read {ENDPOINT}", EtcdUnavailable("behind"), "preflight"),
    ("etcd", "save_snapshot", EtcdUnavailable("broke off"), "save"),
    ("etcd", "save_snapshot", NoSpace("disk full"), "save"),
    ("etcd", "save_snapshot", CommandTimeout("hangs"), "save"),
    ("etcd", "save_snapshot", Interrupted("stopping"), "save"),
    ("tool", "tool_status", SnapshotInvalid("damaged"), "verify"),
    ("tool", "describe", CommandTimeout("hangs"), "verify"),
    ("store", "put", Interrupted("stopping"), "store"),
    ("store", "put", RuntimeError("a defect"), "store"),
    ("store", "put_if_absent", Interrupted("stopping"), "manifest"),
]


@pytest.mark.parametrize("part, call, error, step", STEP_FAILURES, ids=lambda value: str(value)[:24])
def test_a_step_that_fails_ends_it_and_leaves_nothing_behind(
    node: Node, part: str, call: str, error: Exception, step: str
) -> None:
    getattr(node, part).failures.always(call, error)
    with pytest.raises(type(error)) as caught:
        node.run()
    assert caught.value is error
    assert [result.name for result in node.steps.results] == ALL_STEPS[: ALL_STEPS.index(step) + 1]
    assert node.steps.results[-1].status == "failed"
    assert nothing_is_left(node)


def test_data_stays_when_nobody_knows_whether_its_manifest_was_written(node: Node) -> None:
    """The write was done and its answer lost: without the data, the manifest would be a backup that is none."""

    def written_all_the_same(call: str, key: str) -> None:
        if call == "put_if_absent" and "/manifest/" in key:
            node.store.objects[key] = b"the manifest"

    node.store.before = written_all_the_same
    node.store.failures.always("put_if_absent", AwsUnavailable("the answer was lost"))
    assert not node.run()["stored"]
    assert [key for key in node.store.objects if "/data/" in key]


def test_data_stays_when_the_store_can_not_be_asked_for_its_manifest(node: Node) -> None:
    node.store.before = lambda call, key: (
        node.store.failures.always("keys", AwsUnavailable("away")) if "/manifest/" in key else None
    )
    node.store.failures.always("put_if_absent", AwsUnavailable("away"))
    assert not node.run()["stored"]
    assert [key for key in node.store.objects if "/data/" in key]


@pytest.mark.parametrize(
    "content, why",
    [
        (snapshot_bytes()[:-1], "not whole pages"),
        (snapshot_bytes()[:-512], "do not have the checksum"),
        (snapshot_bytes()[:100] + b"x" + snapshot_bytes()[101:], "do not have the checksum"),
        (b"", "not whole pages"),
        (snapshot_bytes(fill=b"something else "), "says that it is damaged"),
    ],
)
def test_a_file_that_is_cut_altered_or_damaged_is_never_stored(node: Node, content: bytes, why: str) -> None:
    node.etcd.content = content
    with pytest.raises(SnapshotInvalid, match=why):
        node.run()
    assert nothing_is_left(node)


def test_a_file_older_than_what_another_voter_confirmed_is_never_stored(node: Node) -> None:
    node.etcd.revisions["https://10.0.0.2:2379"] = 22
    with pytest.raises(SnapshotInvalid, match="ends at revision 21, before revision 22"):
        node.run()
    assert nothing_is_left(node)


def test_a_file_of_just_that_revision_is_fresh(node: Node) -> None:
    node.etcd.revisions["https://10.0.0.2:2379"] = 21
    assert node.run()["checks"]["fresh"] == "passed"


def test_the_next_voter_confirms_where_the_first_does_not_answer(node: Node) -> None:
    node.etcd.failures.always("read https://10.0.0.2:2379", CommandTimeout("hangs"))
    node.run()
    (manifest,) = node.manifests()
    assert "confirmed by node-3" in {check.note for check in manifest.checks}


def test_the_confirming_read_counts_only_as_that_voters_own(node: Node) -> None:
    node.run()
    assert node.etcd.members_asked[0] == OTHER


def test_without_another_voter_that_answers_it_is_refused_with_the_way_out(node: Node) -> None:
    for number in (2, 3):
        node.etcd.failures.always(f"read https://10.0.0.{number}:2379", EtcdUnavailable(f"{number} is away"))
    error = refused(node, "no-other-voter")
    assert "--emergency" in error.hint
    assert "2 is away" in error.message
    assert "3 is away" in error.message


def test_a_learner_confirms_nothing(node: Node) -> None:
    node.etcd.member_list = [member(OWN, 1), member(OTHER, 2), member(THIRD, 3, is_learner=True)]
    node.etcd.failures.always("read https://10.0.0.2:2379", EtcdUnavailable("away"))
    refused(node, "no-other-voter")


def test_the_only_voter_confirms_itself_and_the_manifest_says_so(node: Node) -> None:
    node.etcd.member_list = [member(OWN, 1)]
    node.run()
    (manifest,) = node.manifests()
    assert {check.note for check in manifest.checks if check.level == "fresh"} == {"sole_voter"}


def test_preflight_refuses_a_source_that_is_none(node: Node) -> None:
    node.etcd.statuses = [STATUS, replace(STATUS, member_id=OTHER)]
    refused(node, "endpoint-not-one-member")
    node.etcd.statuses = [replace(STATUS, is_learner=True)]
    refused(node, "learner")
    node.etcd.statuses = [cut_off()]
    refused(node, "no-leader")
    node.etcd.statuses = [STATUS]
    node.etcd.alarm_list = [Alarm(OWN, AlarmKind.CORRUPT)]
    refused(node, "corrupt")
    node.etcd.member_list = [member(OTHER, 2)]
    refused(node, "endpoint-not-listed")
    assert "save_snapshot" not in node.etcd.failures.calls


def test_a_full_disk_is_found_before_anything_is_written(node: Node) -> None:
    node.free_bytes = 4915
    node.run()
    node.free_bytes = 4914
    with pytest.raises(NoSpace, match="needs 4,915"):
        node.run(op_id="snapshot-2")
    assert node.etcd.failures.calls.count("save_snapshot") == 1


def test_an_emergency_asks_nothing_that_needs_a_leader_and_is_never_the_latest_good(node: Node) -> None:
    node.etcd.statuses = [cut_off()]
    for call in ("members", "alarms", f"read {ENDPOINT}", "count_keys"):
        node.etcd.failures.always(call, EtcdOutcomeUnknown("no quorum"))
    output = node.run(params={"emergency": "true"})
    assert output["retention_class"] == "emergency"
    assert output["checks"]["fresh"] == "skipped"
    (backup,) = catalogue.backups(node.store, "prod")
    assert not backup.is_good
    assert snapshots.latest_good([backup]) is None


def test_an_emergency_still_refuses_a_load_balancer(node: Node) -> None:
    node.etcd.statuses = [cut_off(), cut_off(replace(STATUS, member_id=OTHER))]
    refused(node, "endpoint-not-one-member", params={"emergency": "true"})


def test_keys_that_can_not_be_counted_cost_only_their_number(node: Node) -> None:
    node.etcd.failures.always("count_keys", EtcdUnavailable("away"))
    node.run()
    assert [manifest.live_keys for manifest in node.manifests()] == [None]


def test_the_first_is_monthly_and_the_next_fill_the_calendar(node: Node) -> None:
    def class_of(op_id: str, requested_at: str) -> str:
        return str(node.run(op_id=op_id, requested_at=requested_at)["retention_class"])

    assert class_of("snapshot-1", "2026-01-01T00:00:00Z") == "monthly"
    assert class_of("snapshot-2", "2026-01-01T23:59:59Z") == "hourly"
    assert class_of("snapshot-3", "2026-01-02T00:00:00Z") == "daily"
    assert class_of("snapshot-4", "2026-01-31T23:59:59Z") == "weekly"
    assert class_of("snapshot-5", "2026-02-01T00:00:00Z") == "monthly"
    assert class_of("snapshot-6", "2026-02-01T01:00:00Z") == "hourly"


def test_a_damaged_manifest_does_not_stop_the_snapshots_that_follow(node: Node) -> None:
    """A node can not remove it: it would stop them for good."""
    node.run(op_id="snapshot-1")
    node.store.objects["monthly/manifest/prod/20260101T000000Z-01234567.json"] = b"\xff"
    assert node.run(op_id="snapshot-2")["retention_class"] == "hourly"
    assert catalogue.resolve(node.store, "prod", "latest").manifest.op_id in ("snapshot-1", "snapshot-2")
    with pytest.raises(SnapshotInvalid):
        catalogue.backups(node.store, "prod")


def test_a_key_that_is_taken_is_left_alone_and_another_one_used(node: Node) -> None:
    for _ in range(committing.MOST_KEYS - 1):
        node.store.failures.once("put", KeyTaken("taken"))
    node.run()
    assert len(node.manifests()) == 1
    node.store.failures.always("put", KeyTaken("taken"))
    assert not node.run(op_id="snapshot-2")["stored"]
    assert len(kept(node)) == 2


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_same_operation_again_finds_what_is_there(node: Node, attempt: int) -> None:
    first = node.run()
    before = dict(node.store.objects)
    again = node.run(attempt)
    assert again == first | {"already": True}
    assert node.store.objects == before


def test_of_two_nodes_with_the_same_operation_one_commits_and_both_answer_alike(node: Node, tmp_path: Path) -> None:
    other = Node(
        tmp_path / "other", "node-2", store=FakeStore(objects=node.store.objects, metadata=node.store.metadata)
    )
    other.work.mkdir()
    answers: list[dict[str, Any]] = []

    def other_one_is_faster(call: str, key: str) -> None:
        if call == "put_if_absent" and not answers:
            answers.append(other.run(trace_id="6" * 32))

    node.store.before = other_one_is_faster
    late = node.run()
    (manifest,) = node.manifests()
    assert manifest.trace_id == "6" * 32
    assert late == answers[0] | {"already": True}
    assert [key for key in node.store.objects if "/data/" in key] == [manifest.data.key]


def test_two_nodes_with_the_same_operation_agree_on_its_class_whatever_commits_between_them(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The other one chose `monthly`; when this one looks, another operation's monthly is there."""
    stores = {name: FakeStore(objects=node.store.objects, metadata=node.store.metadata) for name in ("second", "third")}
    second, third = (Node(tmp_path_factory.mktemp(name), name, store=store) for name, store in stores.items())

    def before_its_data(call: str, key: str) -> None:
        if call == "put" and not answers:
            third.run(op_id="snapshot-3", requested_at="2026-01-31T11:00:00Z")
            answers.append(node.run())

    answers: list[dict[str, Any]] = []
    stores["second"].before = before_its_data
    late = second.run()
    assert late == answers[0] | {"already": True}
    assert [(manifest.op_id, manifest.retention_class) for manifest in node.manifests()] == [
        (OP_ID, "monthly"), ("snapshot-3", "monthly"),
    ]  # fmt: skip


def test_a_class_that_can_not_be_read_stops_that_operation_alone(node: Node) -> None:
    identifier = snapshots.snapshot_id("2026-01-31T12:00:00Z", "snapshot-1")
    node.store.objects[snapshots.class_key("prod", identifier)] = b"yearly"
    with pytest.raises(SnapshotInvalid, match="names no retention class: b'yearly'") as caught:
        node.run(op_id="snapshot-1")
    assert caught.value.hint
    assert nothing_is_left(node)
    node.run(op_id="snapshot-2")


def test_giving_up_data_that_lost_is_no_reason_to_fail(node: Node, tmp_path_factory: pytest.TempPathFactory) -> None:
    other_store = FakeStore(objects=node.store.objects, metadata=node.store.metadata)
    other = Node(tmp_path_factory.mktemp("other"), "node-2", store=other_store)

    def other_one_is_faster(call: str, key: str) -> None:
        if call == "put_if_absent" and "/manifest/" in key:
            other.run()

    node.store.before = other_one_is_faster
    node.store.failures.always("abandon", AwsUnavailable("away"))
    assert node.run()["already"]


def test_what_a_killed_attempt_left_is_removed_before_the_next_one_stores(node: Node) -> None:
    killed = node.job(attempt=1)
    (killed.folder / "snapshot.db").write_bytes(b"half")
    (killed.folder / "snapshot.db.part").write_bytes(b"half")
    leftovers.Journal(killed.folder).begin("hourly/data/prod/old.db.zst", "upload-1")
    node.run(attempt=2)
    assert node.store.abandoned == ["hourly/data/prod/old.db.zst"]
    assert not list(node.work.iterdir())


def test_a_whole_file_of_a_former_attempt_is_never_taken_for_what_is_saved_now(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone before anybody follows: a name in the folder is then a file of this attempt."""
    former = node.job().folder / "snapshot.db"
    former.write_bytes(snapshot_bytes(fill=b"key and former "))
    found = []
    begins = Following.begins

    def looks(following: Following) -> None:
        begins(following)
        found.append(former.exists())

    monkeypatch.setattr(Following, "begins", looks)
    node.run()
    assert found == [False]
    (manifest,) = node.manifests()
    assert manifest.raw_sha256 == hashlib.sha256(node.etcd.content).hexdigest()


def test_what_was_half_written_beside_the_attempts_is_removed(node: Node) -> None:
    (node.work / ".store-0123456789abcdef.json.01234567.tmp").write_bytes(b"half")
    (node.work / "store-0123456789abcdef.json").write_bytes(b"{}")
    node.run()
    assert [path.name for path in node.work.iterdir()] == ["store-0123456789abcdef.json"]


def test_an_upload_that_can_not_be_aborted_now_is_kept_in_mind(node: Node) -> None:
    leftovers.Journal(node.job(attempt=1).folder).begin("hourly/data/prod/old.db.zst", "upload-1")
    node.store.failures.once("abandon", AwsUnavailable("away"))
    node.run(attempt=2)
    assert node.store.abandoned == []
    node.run(attempt=1, op_id="snapshot-2")
    assert node.store.abandoned == ["hourly/data/prod/old.db.zst"]


def test_a_journal_of_an_earlier_generation_in_the_same_folder_is_not_forgotten(node: Node) -> None:
    leftovers.Journal(node.job(attempt=1).folder).begin("hourly/data/prod/old.db.zst", "upload-1")
    node.run(attempt=1)
    assert node.store.abandoned == ["hourly/data/prod/old.db.zst"]


def test_a_kill_while_an_uploads_id_is_written_down_leaves_its_key(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = node.job(attempt=1).folder
    leftovers.Journal(folder).begin("hourly/data/prod/old.db.zst", "")

    def killed_in_the_midst(path: Path, text: str) -> None:
        path.write_bytes(b"")
        raise Interrupted("killed")

    monkeypatch.setattr(Path, "write_text", killed_in_the_midst)
    with pytest.raises(Interrupted):
        leftovers.Journal(folder).begin("hourly/data/prod/old.db.zst", "upload-1")
    monkeypatch.undo()
    node.run(attempt=2)
    assert node.store.abandoned == ["hourly/data/prod/old.db.zst"]
    assert not list(node.work.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b"\xff"])
def test_a_journal_that_was_cut_off_stops_nothing(node: Node, content: bytes) -> None:
    (node.job(attempt=1).folder / leftovers.JOURNAL_NAME).write_bytes(content)
    node.run(attempt=2)
    assert not list(node.work.iterdir())


def test_a_worker_that_is_stopped_while_it_cleans_up_stops(node: Node) -> None:
    leftovers.Journal(node.job(attempt=1).folder).begin("hourly/data/prod/old.db.zst", "upload-1")
    node.store.failures.once("abandon", Interrupted("stopping"))
    with pytest.raises(Interrupted):
        node.run(attempt=2)


def test_one_that_is_cancelled_at_its_point_of_no_return_has_stored_nothing(node: Node) -> None:
    def cancelled() -> None:
        raise Interrupted("cancelled before the point of no return")

    job = node.job()
    with pytest.raises(Interrupted), trace.bound(trace_id=job.request.trace_id, op_id=job.request.op_id):
        snapshot.run(job, node.ports, Steps(lambda progress: None, cancelled))
    leftovers.remove_attempt(job.folder)
    assert nothing_is_left(node)


def test_time_that_is_over_ends_it_before_it_counts(node: Node) -> None:
    saved = node.job(attempt=1).folder / "snapshot.db"
    node.time_left_s = lambda: -1.0 if saved.exists() else 60.0
    with pytest.raises(DeadlineExceeded):
        node.run()
    assert node.steps.results[-1].name == "verify"
    assert nothing_is_left(node)


def test_every_error_of_the_operation_is_told_with_what_to_do(node: Node) -> None:
    node.etcd.statuses = [cut_off()]
    with pytest.raises(AgentError) as caught:
        node.run()
    assert caught.value.hint
