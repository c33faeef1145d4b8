"""The S3 store when calls are refused, lost or answered twice: one object in the end, or none and no upload."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.multipart import PART_BYTES
from agent.errors import AgentError, AwsRefused, AwsUnavailable, KeyTaken, SnapshotInvalid, StoreError
from agent.operations import leftovers
from agent.operations.leftovers import JOURNAL_NAME, Journal
from agent.ports import MOST_SMALL_BYTES, StoredObject
from tests.integration.stores import S3Target, start_moto
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import S3Server

pytestmark = pytest.mark.integration
METADATA = {"trace-id": "1" * 32, "op-id": "snapshot-1", "cluster": "prod"}
KEY = "hourly/data/prod/20260131T120000Z-01234567-89abcdef.db.zst"
CONTENT = b"x" * (PART_BYTES + 7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with Processes(tmp_path_factory.mktemp("s3")) as processes:
        yield start_moto(processes)


@pytest.fixture
def target(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Target:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work/snapshot-1/1").mkdir(parents=True)
    made = S3Target(server, f"run-{secrets.token_hex(6)}", tmp_path / "work")
    made.store.put_if_absent("coordination/prod/first", b"probes are done", metadata=METADATA)
    made.client.calls.clear()
    return made


def attempt_of(target: S3Target) -> Path:
    return target.state_folder / "snapshot-1/1"


def put(target: S3Target) -> StoredObject:
    return target.store.put(KEY, iter([CONTENT]), metadata=METADATA, journal=Journal(attempt_of(target)))


def nothing_is_left(target: S3Target) -> bool:
    journal = attempt_of(target) / JOURNAL_NAME
    return target.objects("hourly/") == {} and target.unfinished() == [] and not journal.exists()


def test_objects_carry_the_trace(target: S3Target) -> None:
    put(target)
    target.store.put_if_absent("hourly/manifest/prod/a.json", b"{}", metadata=METADATA)
    found = target.objects("hourly/")
    assert len(found) == 2
    assert all(head["Metadata"] == METADATA for head in found.values())


@pytest.mark.parametrize("operation", ["create_multipart_upload", "upload_part", "head_object"])
@pytest.mark.parametrize("fault", ["away", "lost"])
def test_calls_that_may_be_repeated_are(target: S3Target, operation: str, fault: str) -> None:
    target.client.plan[operation] = [fault, fault, ""]
    assert put(target).size_bytes == len(CONTENT)
    assert list(target.objects("hourly/")) == [KEY]


@pytest.mark.parametrize("lost", [1, 2])
def test_an_upload_whose_id_never_came_is_aborted(target: S3Target, lost: int) -> None:
    """Each call that was lost made one upload, and only the last one's id is known."""
    target.client.plan["create_multipart_upload"] = [*["lost"] * lost, ""]
    put(target)
    assert target.unfinished() == []
    assert list(target.objects("hourly/")) == [KEY]
    assert not (attempt_of(target) / JOURNAL_NAME).exists()


def test_the_same_bytes_of_the_same_operation_once_more_are_found_there_and_leave_no_upload(target: S3Target) -> None:
    put(target)
    target.client.plan["complete_multipart_upload"] = ["PreconditionFailed"]
    assert put(target).size_bytes == len(CONTENT)
    assert target.unfinished() == []
    assert list(target.objects("hourly/")) == [KEY]
    assert not (attempt_of(target) / JOURNAL_NAME).exists()


@pytest.mark.parametrize("fault", ["lost", "away"])
def test_uploads_whose_ids_never_came_are_aborted_when_that_was_all(target: S3Target, fault: str) -> None:
    target.client.plan["create_multipart_upload"] = [fault]
    with pytest.raises(AwsUnavailable):
        put(target)
    assert nothing_is_left(target)


def test_an_upload_of_which_a_kill_left_only_the_key_is_aborted_by_the_next_attempt(target: S3Target) -> None:
    def killed(operation: str) -> None:
        if operation in ("upload_part", "abort_multipart_upload", "list_multipart_uploads"):
            raise SystemExit  # whatever cleaning up would do, a killed process does not

    class Killed(Journal):
        def begin(self, key: str, upload_id: str) -> None:
            if upload_id:
                raise SystemExit
            super().begin(key, upload_id)

    target.client.before = killed
    with pytest.raises(SystemExit):
        target.store.put(KEY, iter([CONTENT]), metadata=METADATA, journal=Killed(attempt_of(target)))
    others = target.server.client().create_multipart_upload(
        Bucket=target.server.bucket, Key=f"{target.prefix}/{KEY}.of-another"
    )
    assert len(target.unfinished()) == 2
    target.client.before = lambda operation: None
    leftovers.abandon_uploads(target.state_folder, target.state_folder / "snapshot-1/2", target.store)
    assert target.unfinished() == [others["Key"]]
    assert not (target.state_folder / "snapshot-1").exists()


def test_where_uploads_may_not_be_listed_those_with_a_known_id_are_aborted(target: S3Target) -> None:
    target.client.plan |= {"list_multipart_uploads": ["AccessDenied"], "upload_part": ["InvalidPart"]}
    with pytest.raises(AwsRefused, match="InvalidPart"):
        put(target)
    assert nothing_is_left(target)


def test_a_refused_creation_made_nothing(target: S3Target) -> None:
    target.client.plan["create_multipart_upload"] = ["AccessDenied"]
    with pytest.raises(AwsRefused, match="AccessDenied"):
        put(target)
    assert nothing_is_left(target)


def test_what_is_too_large_for_a_small_object_is_not_read_whole(target: S3Target) -> None:
    key = "hourly/manifest/prod/a.json"
    target.server.client().put_object(
        Bucket=target.server.bucket, Key=f"{target.prefix}/{key}", Body=b" " * (MOST_SMALL_BYTES + 1)
    )
    with pytest.raises(SnapshotInvalid, match="more than 4,194,304 bytes"):
        target.store.read(key)
    assert not target.store.put_if_absent(key, b"{}", metadata=METADATA)


def test_a_completion_whose_answer_was_lost_is_found_done(target: S3Target) -> None:
    target.client.plan["complete_multipart_upload"] = ["lost"]
    assert put(target).size_bytes == len(CONTENT)
    assert target.client.calls.count("complete_multipart_upload") == 1
    assert list(target.objects("hourly/")) == [KEY]


@pytest.mark.parametrize("code", ["NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict", "404"])
def test_a_completion_that_is_refused_since_it_was_done_before_is_done(target: S3Target, code: str) -> None:
    def completed_by_a_lost_call(operation: str) -> None:
        if operation == "complete_multipart_upload":
            target.client.before = lambda operation: None
            real = target.server.client()
            full_key = f"{target.prefix}/{KEY}"
            (upload,) = real.list_multipart_uploads(Bucket=target.server.bucket, Prefix=full_key)["Uploads"]
            listed = real.list_parts(Bucket=target.server.bucket, Key=full_key, UploadId=upload["UploadId"])["Parts"]
            parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]
            real.complete_multipart_upload(
                Bucket=target.server.bucket, Key=full_key, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
            )

    target.client.before = completed_by_a_lost_call
    target.client.plan["complete_multipart_upload"] = [code]
    assert put(target).size_bytes == len(CONTENT)
    assert list(target.objects("hourly/")) == [KEY]


def test_a_completion_that_did_not_arrive_is_sent_again(target: S3Target) -> None:
    target.client.plan["complete_multipart_upload"] = ["away", "away", ""]
    assert put(target).size_bytes == len(CONTENT)
    assert list(target.objects("hourly/")) == [KEY]


def test_a_completion_that_never_arrives_is_given_up_whole(target: S3Target) -> None:
    target.client.plan["complete_multipart_upload"] = ["away"]
    with pytest.raises(AwsUnavailable, match="can not be completed"):
        put(target)
    assert nothing_is_left(target)


def test_an_upload_that_vanished_asks_for_a_fresh_key(target: S3Target) -> None:
    target.client.plan["complete_multipart_upload"] = ["NoSuchUpload"]
    with pytest.raises(KeyTaken, match="is gone"):
        put(target)
    assert nothing_is_left(target)


@pytest.mark.parametrize("code", ["AccessDenied", "EntityTooSmall", "InvalidPart"])
def test_a_completion_that_is_refused_is_given_up_whole(target: S3Target, code: str) -> None:
    target.client.plan["complete_multipart_upload"] = [code]
    with pytest.raises(AwsRefused):
        put(target)
    assert target.client.calls.count("complete_multipart_upload") == 1
    assert nothing_is_left(target)


@pytest.mark.parametrize("other", [b"of another size", b"y" * len(CONTENT)])
def test_another_writers_object_under_the_key_is_left_alone(target: S3Target, other: bytes) -> None:
    def another_is_faster(operation: str) -> None:
        if operation == "complete_multipart_upload":
            target.server.client().put_object(
                Bucket=target.server.bucket, Key=f"{target.prefix}/{KEY}", Body=other, Metadata={"op-id": "snapshot-2"}
            )

    target.client.before = another_is_faster
    target.client.plan["complete_multipart_upload"] = ["PreconditionFailed"]
    with pytest.raises(KeyTaken, match="another object"):
        put(target)
    assert target.unfinished() == []
    with target.store.open(KEY) as chunks:
        assert b"".join(chunks) == other


@pytest.mark.parametrize("fault", ["away", "AccessDenied"])
def test_an_upload_that_can_not_be_aborted_stays_in_the_journal_for_the_next_attempt(
    target: S3Target, fault: str
) -> None:
    target.client.plan |= {"upload_part": ["InvalidPart"], "abort_multipart_upload": [fault]}
    with pytest.raises(AwsRefused, match="InvalidPart"):
        put(target)
    assert target.unfinished() == [f"{target.prefix}/{KEY}"]
    leftovers.remove_attempt(attempt_of(target))
    target.client.plan.clear()
    leftovers.abandon_uploads(target.state_folder, target.state_folder / "snapshot-1/2", target.store)
    assert nothing_is_left(target)
    assert not (target.state_folder / "snapshot-1").exists()


def test_an_object_that_is_another_than_was_sent_is_an_error(target: S3Target) -> None:
    def altered_on_its_way(operation: str) -> None:
        if operation == "head_object":
            target.server.client().put_object(
                Bucket=target.server.bucket, Key=f"{target.prefix}/{KEY}", Body=b"altered"
            )

    target.client.before = altered_on_its_way
    with pytest.raises(StoreError, match=f"has 7 bytes after the upload of {len(CONTENT)} bytes"):
        put(target)


def test_a_small_object_whose_answer_was_lost_is_written_once(target: S3Target) -> None:
    target.client.plan["put_object"] = ["lost", ""]
    assert target.store.put_if_absent("hourly/manifest/prod/a.json", b"{}", metadata=METADATA)
    target.client.plan["put_object"] = ["lost", ""]
    assert not target.store.put_if_absent("hourly/manifest/prod/a.json", b"[]", metadata=METADATA)


def test_a_conflict_of_two_conditional_writes_is_tried_again(target: S3Target) -> None:
    target.client.plan["put_object"] = ["ConditionalRequestConflict", "409", ""]
    assert target.store.put_if_absent("hourly/manifest/prod/a.json", b"{}", metadata=METADATA)


def test_a_listing_of_several_pages_is_whole(target: S3Target) -> None:
    keys = [f"hourly/manifest/prod/{number}.json" for number in range(7)]
    for key in keys:
        target.store.put_if_absent(key, b"{}", metadata=METADATA)
    target.client.page_size = 3
    target.client.calls.clear()
    assert target.store.keys("hourly/manifest/prod/") == keys
    assert target.client.calls == ["list_objects_v2"] * 3


@pytest.mark.parametrize("fault", ["away", "AccessDenied"])
def test_a_listing_that_breaks_off_is_an_error_and_never_short(target: S3Target, fault: str) -> None:
    for number in range(3):
        target.store.put_if_absent(f"hourly/manifest/prod/{number}.json", b"{}", metadata=METADATA)
    target.client.page_size = 1
    target.client.plan["list_objects_v2"] = ["", fault]
    with pytest.raises(AgentError):
        target.store.keys("hourly/manifest/prod/")


def fresh(target: S3Target, **plan: Any) -> S3Target:
    """The same server seen by a node that has not probed it yet."""
    for path in target.state_folder.glob("store-*.json"):
        path.unlink()
    target.client.plan |= plan
    return target


def test_a_store_that_takes_wrong_checksums_proves_nothing(target: S3Target) -> None:
    assert put(target).stored == "unavailable"


def test_an_object_whose_checksum_is_another_is_an_error_where_checksums_count(target: S3Target) -> None:
    """The server's own echo is a wrong one; only a store that is known to check them is taken at its word."""
    (path,) = target.state_folder.glob("store-*.json")
    path.write_text('{"conditions": true, "checksums": true}')
    with pytest.raises(StoreError, match="has the checksum"):
        put(target)


def test_what_a_store_can_do_is_probed_once(target: S3Target) -> None:
    put(fresh(target))
    assert target.client.calls.count("put_object") == 3
    put_calls_before = target.client.calls.count("put_object")
    target.store.put(f"{KEY}-2", iter([b"2"]), metadata=METADATA, journal=Journal(attempt_of(target)))
    assert target.client.calls.count("put_object") == put_calls_before


def test_a_store_without_conditions_is_written_without(target: S3Target) -> None:
    """Some stores refuse the header, some do not look at it: a refusal that is no 412 is no proof."""
    put(fresh(target, put_object=["NotImplemented", "NotImplemented", ""]))
    store = target.store
    assert store.put_if_absent("hourly/manifest/prod/a.json", b"{}", metadata=METADATA)
    assert not store.put_if_absent("hourly/manifest/prod/a.json", b"[]", metadata=METADATA)
    assert store.read("hourly/manifest/prod/a.json") == b"{}"


@pytest.mark.parametrize("code", ["InvalidRequest", "PermanentRedirect", "KMS.DisabledException"])
def test_of_a_store_that_refuses_every_small_object_nothing_is_learnt(target: S3Target, code: str) -> None:
    """Remembered as one without conditions, it would be written without them once the cause is gone."""
    with pytest.raises(AwsRefused, match=code):
        put(fresh(target, put_object=[code]))
    assert not list(target.state_folder.glob("store-*.json"))
    target.client.plan.clear()
    put(target)
    assert json.loads(next(target.state_folder.glob("store-*.json")).read_text())["conditions"]


def test_a_store_that_checks_no_sums_does_not_count_as_one_that_does(target: S3Target) -> None:
    assert put(fresh(target)).stored == "unavailable"


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "RequestTimeTooSkewed", "NoSuchBucket"])
def test_a_refusal_of_this_node_at_this_time_is_not_remembered_of_the_store(target: S3Target, code: str) -> None:
    with pytest.raises(AwsRefused, match=code):
        put(fresh(target, put_object=[code]))
    assert not list(target.state_folder.glob("store-*.json"))
    assert nothing_is_left(target)


@pytest.mark.parametrize("known", ["", "{", "[]", '{"conditions": true}'])
def test_a_damaged_memory_of_the_store_is_probed_anew(target: S3Target, known: str) -> None:
    (path,) = target.state_folder.glob("store-*.json")
    path.write_text(known)
    put(target)
    assert "checksums" in path.read_text()
