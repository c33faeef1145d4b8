"""Pruning real stores: what the plan lets go is gone whole, and nothing else is touched."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.adapters.directory import DirectoryStore
from agent.adapters.directory_eraser import DirectoryEraser
from agent.adapters.s3_eraser import S3Eraser
from agent.config import StoreConfig
from agent.domain import snapshot
from agent.domain.retention import ClassRule
from agent.domain.snapshot import RETENTION_CLASSES, Manifest, RetentionClass, StoredData
from agent.errors import AwsUnavailable, SnapshotNotFound
from agent.operations import catalogue, prune
from agent.operations.leftovers import Journal
from agent.operations.prune import PrunePorts
from agent.ports import Eraser, ObjectFacts, Store
from tests.integration.daemon_node import node_in
from tests.integration.stores import S3Target, running_servers
from tests.sandbox.s3_server import S3Server
from tests.unit.test_snapshot_domain import GOOD, checks, manifest, verification

pytestmark = pytest.mark.integration
NOW = datetime.now(UTC).replace(microsecond=0)
RULES = {name: ClassRule(2, timedelta(days=1)) for name in RETENTION_CLASSES}
METADATA = {"trace-id": "1" * 32, "op-id": "snapshot-1", "cluster": "prod"}


@dataclass
class Place:
    """A store with what may be removed from it, and a way to put snapshots there."""

    store: Store
    eraser: Eraser
    journal: Journal

    @property
    def ports(self) -> PrunePorts:
        return PrunePorts(self.store, self.eraser, RULES)

    def put(
        self, age_h: float, retention_class: RetentionClass = "hourly", *, cluster: str = "prod", damaged: bool = False
    ) -> Manifest:
        moment = f"{NOW - timedelta(hours=age_h):%Y-%m-%dT%H:%M:%SZ}"
        identifier = snapshot.snapshot_id(moment, f"snapshot-{secrets.token_hex(8)}")
        key = snapshot.data_key(retention_class, cluster, identifier, secrets.token_hex(4))
        self.store.put(key, [b"data"], metadata=METADATA, journal=self.journal)
        outcomes = GOOD | {"structure": "failed"} if damaged else GOOD
        made = manifest(
            snapshot_id=identifier, retention_class=retention_class, cluster=cluster, requested_at=moment,
            data=StoredData(key, 4, "2" * 64), checks=checks(outcomes),
        )  # fmt: skip
        name = snapshot.manifest_key(retention_class, cluster, identifier)
        assert self.store.put_if_absent(name, snapshot.encode(made), metadata=METADATA)
        return made

    def record(self, of: Manifest) -> str:
        key = snapshot.verification_key(of, "structure", NOW)
        assert self.store.put_if_absent(key, snapshot.encode(verification("passed")), metadata=METADATA)
        return key

    def everything(self) -> set[str]:
        return {key for name in RETENTION_CLASSES for key in self.store.keys(f"{name}/")}

    def ids(self, cluster: str = "prod") -> set[str]:
        return {backup.manifest.snapshot_id for backup in catalogue.backups(self.store, cluster)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, S3Server]]:
    with running_servers(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(params=["directory", "moto", "versitygw"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "attempt").mkdir()
    journal = Journal(tmp_path / "attempt")
    if request.param == "directory":
        return Place(DirectoryStore(tmp_path / "store"), DirectoryEraser(tmp_path / "store"), journal)
    servers: dict[str, S3Server] = request.getfixturevalue("servers")
    if request.param not in servers:
        pytest.skip("versitygw is not in the cache; `make tools` builds it where there is a Go")
    server = servers[request.param]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    target = S3Target(server, f"run-{secrets.token_hex(6)}", tmp_path)
    config = StoreConfig(kind="s3", bucket=server.bucket, prefix=target.prefix, endpoint_url=server.endpoint_url)
    return Place(target.store, S3Eraser(config, client=target.client, first_wait_s=0.001), journal)


def pruned(place: Place) -> prune.Plan:
    made = prune.plan(place.ports, "prod", NOW)
    prune.carry_out(place.ports, made)
    return made


def test_what_goes_is_gone_whole_and_the_rest_is_untouched(place: Place) -> None:
    kept = [place.put(age_h) for age_h in (1, 30, 31)]
    gone = [place.put(age_h) for age_h in (40, 41)]
    other = [place.put(age_h, cluster="other") for age_h in (50, 51, 52, 53)]
    monthly = place.put(5000, "monthly")
    place.record(gone[0])
    record = place.record(kept[2])
    words = [snapshot.class_key("prod", one.snapshot_id) for one in (*kept[:2], gone[0])]
    for word in words:
        assert place.store.put_if_absent(word, b"hourly", metadata=METADATA)
    made = pruned(place)
    assert {held.snapshot_id for held in made.going} == {one.snapshot_id for one in (kept[2], *gone)}
    staying = [*kept[:2], *other, monthly]
    assert place.everything() == {
        key
        for one in staying
        for key in (one.data.key, snapshot.manifest_key(one.retention_class, one.cluster, one.snapshot_id))
    }
    assert record not in place.everything()
    assert [key for key in place.store.keys("coordination/prod/class/") if key in words] == sorted(words[:2])


def test_pruning_again_removes_nothing_more(place: Place) -> None:
    for age_h in range(1, 100, 7):
        place.put(age_h)
    pruned(place)
    before = place.everything()
    assert pruned(place).going == []
    assert place.everything() == before


def test_the_newest_good_stays_among_newer_damaged_ones(place: Place) -> None:
    good = place.put(900)
    for age_h in range(100, 110):
        place.put(age_h, damaged=True)
    pruned(place)
    assert place.ids() == {good.snapshot_id}


def test_a_plan_changes_nothing(place: Place) -> None:
    for age_h in range(1, 100, 9):
        place.put(age_h)
    before = place.everything()
    assert prune.plan(place.ports, "prod", NOW).going
    assert place.everything() == before


def test_data_without_a_manifest_goes_only_when_it_lies_there_for_two_days(place: Place) -> None:
    place.put(1)
    key = snapshot.data_key("hourly", "prod", "20200101T000000Z-01234567", "89abcdef")
    place.store.put(key, [b"unlisted"], metadata=METADATA, journal=place.journal)
    assert pruned(place).unlisted == ()
    later = prune.plan(place.ports, "prod", NOW + timedelta(days=3))
    assert later.unlisted == (key,)
    prune.carry_out(place.ports, later)
    assert key not in place.everything()


def test_beside_a_manifest_that_can_not_be_read_no_data_count_as_unlisted(place: Place) -> None:
    place.put(1)
    damaged = place.put(2)
    name = snapshot.manifest_key("hourly", "prod", damaged.snapshot_id)
    place.eraser.remove(name)
    assert place.store.put_if_absent(name, b"{", metadata=METADATA)
    made = prune.plan(place.ports, "prod", NOW + timedelta(days=3))
    assert (made.unlisted, len(made.damaged)) == ((), 1)
    prune.carry_out(place.ports, made)
    assert {name, damaged.data.key} <= place.everything()


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_an_incomplete_listing_removes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for age_h in range(1, 200, 9):
        place.put(age_h)
    before, listed = place.everything(), place.store.keys

    def breaks_late(folder: str) -> list[str]:
        if folder.startswith("weekly/manifest"):
            raise AwsUnavailable("the second page did not come")
        return listed(folder)

    monkeypatch.setattr(place.store, "keys", breaks_late)
    with pytest.raises(AwsUnavailable):
        prune.plan(place.ports, "prod", NOW)
    monkeypatch.undo()
    assert place.everything() == before


@pytest.mark.parametrize("stop_after", range(6))
@pytest.mark.parametrize("place", ["directory"], indirect=True)
def test_a_crash_anywhere_leaves_no_listed_snapshot_without_data(place: Place, stop_after: int) -> None:
    """Interrupted after each removal, the list holds what can be read, and the next pruning ends the work."""
    for age_h in (1, 30, 31, 40, 41):
        place.record(place.put(age_h))
    eraser, left = place.eraser, [stop_after]

    class Dying:
        def facts(self, key: str) -> ObjectFacts | None:
            return eraser.facts(key)

        def remove(self, key: str) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            eraser.remove(key)

    made = prune.plan(place.ports, "prod", NOW)
    with pytest.raises(KeyboardInterrupt):
        prune.carry_out(PrunePorts(place.store, Dying(), RULES), made)
    for backup in catalogue.backups(place.store, "prod"):
        with place.store.open(backup.manifest.data.key) as chunks:
            assert b"".join(chunks) == b"data"
    after = NOW + timedelta(days=3)
    prune.carry_out(place.ports, prune.plan(place.ports, "prod", after))
    assert len(place.ids()) == 2
    assert len([key for key in place.everything() if "/data/" in key]) == 2


@pytest.mark.parametrize("place", ["versitygw"], indirect=True)
def test_a_locked_object_stays(place: Place, servers: dict[str, S3Server]) -> None:
    """Object lock needs a bucket that was made for it."""
    server = servers["versitygw"]
    client = server.client()
    bucket = f"locked-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    config = StoreConfig(kind="s3", bucket=bucket, prefix="p", endpoint_url=server.endpoint_url)
    target = S3Target(server, "p", place.journal._path.parent)
    target.server = S3Server(server.name, server.endpoint_url, bucket, True, server.child)
    locked = Place(target.store, S3Eraser(config, client=target.client, first_wait_s=0.001), place.journal)
    rows = [locked.put(age_h) for age_h in (30, 31, 40, 41)]
    client.put_object_retention(
        Bucket=bucket, Key=f"p/{rows[3].data.key}",
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": NOW + timedelta(days=9)},
    )  # fmt: skip
    pruned(locked)
    assert locked.ids() == {rows[0].snapshot_id, rows[1].snapshot_id, rows[3].snapshot_id}


@pytest.mark.parametrize("place", ["directory"], indirect=True)
def test_a_record_of_another_snapshot_is_not_taken_along(place: Place) -> None:
    kept = [place.put(age_h) for age_h in (30, 31)]
    gone = place.put(40)
    records = [place.record(one) for one in kept]
    place.record(gone)
    pruned(place)
    assert set(records) <= place.everything()
    with pytest.raises(SnapshotNotFound):
        catalogue.resolve(place.store, "prod", gone.snapshot_id)


def test_the_command_prunes_a_folder_through_the_daemon_and_tells_why(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        node.set_config("[retention]\nhourly_count = 1\n")
        (tmp_path / "attempt").mkdir()
        store = node.root / "var/lib/etcd-agent/snapshots"
        place = Place(DirectoryStore(store), DirectoryEraser(store), Journal(tmp_path / "attempt"))
        newest, old = place.put(60), place.put(70)
        told = json.loads(node.command("snapshot", "prune", "--dry-run", "--json").stdout)
        assert [row["snapshot_id"] for row in told["removed"]] == [old.snapshot_id]
        assert told["removed"][0]["reason"] == "1 newer hourly ones stay, and it is older than 2 days"
        shown = node.command("snapshot", "prune", "--dry-run")
        assert "1 stay, 1 would go; nothing was changed" in shown.stdout
        assert place.ids() == {newest.snapshot_id, old.snapshot_id}
        node.start()
        done = node.command("snapshot", "prune", "--json")
        result = json.loads(done.stdout)["result"]
        assert (done.returncode, result["status"], result["output"]["kept"]) == (0, "succeeded", 1)
        assert place.ids() == {newest.snapshot_id}
        assert node.count("snapshot.pruned") == 1
