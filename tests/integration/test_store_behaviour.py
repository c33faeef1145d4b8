"""One suite for every store: whole or not at all, never overwritten, and a listing is complete or an error."""

import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.directory import DirectoryStore
from agent.domain import request as requests
from agent.domain import snapshot
from agent.domain.snapshot import RetentionClass
from agent.errors import BadInput, KeyTaken, SnapshotInvalid, SnapshotNotFound, StoreError
from agent.operations import catalogue, committing
from agent.operations.following import Following
from agent.operations.leftovers import JOURNAL_NAME, Journal
from agent.operations.steps import Job
from agent.ports import MOST_SMALL_BYTES, Store
from tests.integration.stores import DirectoryTarget, S3Target, Target, running_servers
from tests.sandbox.s3_server import S3Server
from tests.unit.fakes import snapshot_bytes

pytestmark = pytest.mark.integration
PART = 5 * 1024 * 1024
METADATA = {"trace-id": "1" * 32, "op-id": "snapshot-1", "cluster": "prod"}
KEY = "hourly/data/prod/20260131T120000Z-01234567-89abcdef.db.zst"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, S3Server]]:
    with running_servers(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(params=["directory", "moto", "versitygw"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    if request.param == "directory":
        return DirectoryTarget(tmp_path / "store")
    servers: dict[str, S3Server] = request.getfixturevalue("servers")
    if request.param not in servers:
        pytest.skip("versitygw is not in the cache; `make tools` builds it where there is a Go")
    server = servers[request.param]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    return S3Target(server, f"run-{secrets.token_hex(6)}", tmp_path / "work")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "attempt").mkdir()
    return Journal(tmp_path / "attempt")


def content_of(size_bytes: int) -> bytes:
    return (hashlib.sha256(str(size_bytes).encode()).digest() * (size_bytes // 32 + 1))[:size_bytes]


def in_chunks(content: bytes, size_bytes: int = 700_001) -> Iterator[bytes]:
    for start in range(0, len(content), size_bytes):
        yield content[start : start + size_bytes]


@pytest.mark.parametrize("size_bytes", [0, 1, PART, PART + 1])
def test_what_goes_in_comes_out(target: Target, journal: Journal, tmp_path: Path, size_bytes: int) -> None:
    content = content_of(size_bytes)
    stored = target.store.put(KEY, in_chunks(content), metadata=METADATA, journal=journal)
    assert (stored.key, stored.size_bytes) == (KEY, size_bytes)
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.stored == ("passed" if target.proves_integrity else "unavailable")
    with target.store.open(KEY, stored.version_id) as chunks:
        assert b"".join(chunks) == content
    assert target.store.keys("hourly/data/prod") == [KEY]
    assert target.unfinished() == []
    assert not (tmp_path / "attempt" / JOURNAL_NAME).exists()


def test_a_source_that_breaks_leaves_nothing(target: Target, journal: Journal, tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def chunks() -> Iterator[bytes]:
        yield from in_chunks(content_of(PART + 1))
        raise Broken

    with pytest.raises(Broken):
        target.store.put(KEY, chunks(), metadata=METADATA, journal=journal)
    assert target.store.keys("hourly/") == []
    assert target.unfinished() == []
    assert not (tmp_path / "attempt" / JOURNAL_NAME).exists()


def test_an_upload_is_journalled_before_its_first_byte(target: Target, journal: Journal, tmp_path: Path) -> None:
    seen = []

    def chunks() -> Iterator[bytes]:
        seen.append((tmp_path / "attempt" / JOURNAL_NAME).read_text())
        yield b"content"

    target.store.put(KEY, chunks(), metadata=METADATA, journal=journal)
    assert KEY in seen[0]


def test_an_object_is_never_overwritten(target: Target, journal: Journal) -> None:
    target.store.put(KEY, iter([b"the first"]), metadata=METADATA, journal=journal)
    with pytest.raises(KeyTaken):
        target.store.put(KEY, iter([b"another"]), metadata=METADATA | {"op-id": "snapshot-2"}, journal=journal)
    assert target.store.read(KEY) == b"the first"
    assert target.unfinished() == []


def test_a_small_object_is_put_once_and_the_same_again_is_no_conflict(target: Target) -> None:
    key = snapshot.manifest_key("hourly", "prod", "20260131T120000Z-01234567")
    assert target.store.put_if_absent(key, b"{}", metadata=METADATA)
    assert target.store.put_if_absent(key, b"{}", metadata=METADATA)
    assert not target.store.put_if_absent(key, b"[]", metadata=METADATA)
    assert target.store.read(key) == b"{}"


def test_of_writers_at_the_same_time_one_wins(target: Target) -> None:
    target.store.put_if_absent("first/of/all", b"probes are done", metadata=METADATA)
    outcomes: dict[bytes, bool] = {}
    ready = threading.Barrier(4)

    def write(content: bytes) -> None:
        store = target.store
        ready.wait()
        outcomes[content] = store.put_if_absent("the/same/key", content, metadata=METADATA)

    writers = [threading.Thread(target=write, args=(f"writer {number}".encode(),)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(outcomes.values()) == [False, False, False, True]
    assert outcomes[target.store.read("the/same/key")]


def test_a_listing_has_every_object_below_the_folder_and_no_other(target: Target, journal: Journal) -> None:
    keys = ["hourly/manifest/prod/b.json", "hourly/manifest/prod/a.json", "hourly/manifest/prod/deep/er/c.json"]
    for key in [*keys, "hourly/manifest/production/d.json", "hourly/data/prod/e", "monthly/manifest/prod/f.json"]:
        target.store.put_if_absent(key, b"{}", metadata=METADATA)

    def look_meanwhile() -> Iterator[bytes]:
        yield b"half"
        assert target.store.keys("hourly/manifest/prod/") == sorted(keys)

    target.store.put("hourly/manifest/prod/unfinished", look_meanwhile(), metadata=METADATA, journal=journal)
    assert target.store.keys("hourly/manifest/prod/") == sorted([*keys, "hourly/manifest/prod/unfinished"])
    assert target.store.keys("hourly/manifest/nobody/") == []


@pytest.mark.parametrize("key", ["hourly/data/prod/none", "first/of/all/none"])
def test_what_is_not_there_is_not_found(target: Target, key: str) -> None:
    target.store.put_if_absent("first/of/all", b"a file, not a folder", metadata=METADATA)
    with pytest.raises(SnapshotNotFound):
        target.store.read(key)
    with pytest.raises(SnapshotNotFound), target.store.open(key):
        pass


def test_what_is_too_large_for_a_manifest_is_told_as_damaged(target: Target, journal: Journal) -> None:
    """Told as a damaged one it is passed over, as a trouble of the store it would stop every listing for good."""
    key = snapshot.manifest_key("hourly", "prod", "20260131T120000Z-01234567")
    target.store.put(key, iter([b" " * (MOST_SMALL_BYTES + 1)]), metadata=METADATA, journal=journal)
    with pytest.raises(SnapshotInvalid, match="more than 4,194,304 bytes"):
        target.store.read(key)
    assert catalogue.backups(target.store, "prod", damaged=[]) == []
    assert not target.store.put_if_absent(key, b"{}", metadata=METADATA)


def test_giving_up_what_is_not_there_is_no_error(target: Target) -> None:
    for upload_id in ("", "unknown"):
        target.store.abandon(KEY, upload_id)


def test_data_that_lost_its_commit_goes_where_a_node_can_delete(target: Target, journal: Journal) -> None:
    target.store.put(KEY, iter([b"content"]), metadata=METADATA, journal=journal)
    target.store.abandon(KEY, "")
    assert target.store.keys("hourly/") == ([] if target.can_delete else [KEY])


def test_data_that_a_manifest_names_stay_whatever_journal_comes_back(tmp_path: Path) -> None:
    """After a power cut one may, since it is removed before the manifest is written, perhaps on another disk."""
    store = DirectoryTarget(tmp_path / "store").store
    job = make_job(tmp_path / "work", "one")
    commit(job, store)
    (backup,) = catalogue.backups(store, "prod")
    store.abandon(backup.manifest.data.key, "")
    with store.open(backup.manifest.data.key) as chunks:
        assert b"".join(chunks)
    manifest = tmp_path / "store" / snapshot.manifest_key("monthly", "prod", backup.manifest.snapshot_id)
    manifest.write_bytes(b"{")  # it can not be told what it names
    store.abandon(backup.manifest.data.key, "")
    assert store.keys("monthly/data") == [backup.manifest.data.key]
    manifest.unlink()
    store.abandon(backup.manifest.data.key, "")
    assert store.keys("monthly/data") == []


def test_two_nodes_that_run_one_operation_at_once_make_one_backup_of_it(
    target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Between the looks of the two, another operation's monthly appears, which lets them want different classes."""
    first, second, other = (make_job(tmp_path_factory.mktemp("work"), op_id) for op_id in ("one", "one", "other"))
    existing, its_class = committing.place(first, target.store, emergency=False)
    assert (existing, its_class) == (None, "monthly")
    commit(other, target.store)
    assert commit(second, target.store) == ("monthly", False)
    assert commit(first, target.store, its_class) == ("monthly", True)
    found = catalogue.backups(target.store, "prod")
    assert sorted(backup.manifest.op_id for backup in found) == ["snapshot-one", "snapshot-other"]


def make_job(work: Path, op_id: str) -> Job:
    request = requests.make(
        op_id=f"snapshot-{op_id}", operation="snapshot", trace_id="1" * 32, requested_at="2026-01-31T12:00:00Z"
    )
    job = Job(request, 1, work, "prod", "node-1", "", "0")
    job.folder.mkdir(parents=True)
    (job.folder / "snapshot.db").write_bytes(snapshot_bytes())
    return job


def commit(job: Job, store: Store, retention_class: RetentionClass | None = None) -> tuple[str, bool]:
    """Its class, and whether it was there already."""
    if retention_class is None:
        _, retention_class = committing.place(job, store, emergency=False)
    following = Following(job.folder / "snapshot.db")
    following.written()
    stored = committing.send(job, store, lambda: map(bytes, following.chunks()), retention_class)
    identifier, moment = snapshot.snapshot_id(job.request.requested_at, job.request.op_id), job.request.requested_at
    manifest = snapshot.Manifest(
        snapshot_id=identifier, retention_class=retention_class, cluster="prod", etcd_cluster_id="1", member_id="1",
        node=secrets.token_hex(4), instance_id="", etcd_version="3.5.16", tool="", revision=1, hash=1, total_key=1,
        live_keys=1, raw_size_bytes=1, raw_sha256="", data=snapshot.StoredData(stored.key, 1, stored.sha256),
        checks=tuple(snapshot.Check(level, "passed", moment) for level in ("trailer", "structure", "fresh", "stored")),
        fingerprints={}, requested_at=moment, started_at=moment, finished_at=moment, trace_id="1" * 32,
        op_id=job.request.op_id, agent_version="0",
    )  # fmt: skip
    output = committing.commit(job, store, manifest)
    return output["retention_class"], output["already"]


@pytest.mark.parametrize("key", ["../outside", "/absolute", "a/../../b"])
def test_a_key_can_not_leave_a_directory(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInput):
        DirectoryTarget(tmp_path / "store").store.read(key)


def test_a_file_in_the_place_of_a_directory_store_is_told_as_the_stores_trouble(
    tmp_path: Path, journal: Journal
) -> None:
    place = tmp_path / "store"
    place.touch()
    with pytest.raises(StoreError, match="Not a directory"):
        DirectoryTarget(place).store.put(KEY, iter([b"content"]), metadata=METADATA, journal=journal)


def test_in_a_directory_old_small_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "hourly/manifest/prod"
    folder.mkdir(parents=True)
    old = [folder / ".20260131T120000Z-0123.json.89abcdef.tmp", tmp_path / ".20260131T120000Z-01234567.01abcdef.tmp"]
    kept = [folder / ".20260131T120000Z-01234567-89abcdef.db.zst.tmp", folder / "20260131T120000Z-01234567.json"]
    young = folder / ".20260131T130000Z-01234567.json.89abcdef.tmp"
    for path in (*old, *kept, young):
        path.write_bytes(b"half")
    for path in (*old, *kept):
        os.utime(path, (0, 0))
    store = DirectoryStore(tmp_path)
    assert store.put_if_absent("monthly/manifest/prod/other.json", b"{}", metadata=METADATA)
    assert sorted(path for path in folder.iterdir()) == sorted([*kept, young])
    assert not old[1].exists()


def test_in_a_directory_no_group_reads_a_snapshot_whatever_the_umask(tmp_path: Path, journal: Journal) -> None:
    before = os.umask(0o002)
    try:
        store = DirectoryStore(tmp_path / "new/store")
        store.put(KEY, iter([b"content"]), metadata=METADATA, journal=journal)
    finally:
        os.umask(before)
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
