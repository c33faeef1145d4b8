"""The newest good backup is found without reading what is older, and is the one that the whole list says."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import snapshot
from agent.domain.snapshot import RetentionClass
from agent.errors import SnapshotInvalid, StoreError
from agent.operations import catalogue
from tests.unit.fakes import FakeStore
from tests.unit.test_snapshot_domain import GOOD, checks, manifest

BACKUPS = st.tuples(
    st.integers(0, 23), st.sampled_from(snapshot.RETENTION_CLASSES), st.sampled_from(["good", "bad", "damaged"])
)


def put(store: FakeStore, hour: int, retention_class: RetentionClass, state: str) -> str:
    requested_at = f"2026-01-31T{hour:02}:00:00Z"
    identifier = snapshot.snapshot_id(requested_at, "snapshot-0123456789abcdef")
    outcomes = GOOD if state == "good" else GOOD | {"fresh": "skipped"}
    made = manifest(
        requested_at=requested_at, snapshot_id=identifier, retention_class=retention_class, checks=checks(outcomes)
    )
    key = snapshot.manifest_key(retention_class, "prod", identifier)
    store.objects[key] = b"{" if state == "damaged" else snapshot.encode(made)
    return key


@given(st.lists(BACKUPS, max_size=8))
def test_it_is_what_the_whole_list_says(backups: Sequence[tuple[int, RetentionClass, str]]) -> None:
    store = FakeStore()
    for hour, retention_class, state in backups:
        put(store, hour, retention_class, state)
    expected = snapshot.latest_good(catalogue.backups(store, "prod", damaged=[]))
    found = catalogue.newest_good(store, "prod", damaged=[])
    assert (found and found.manifest.snapshot_id) == (expected and expected.manifest.snapshot_id)


def test_nothing_older_is_read_and_what_is_damaged_on_the_way_is_told() -> None:
    store, damaged = FakeStore(), list[SnapshotInvalid]()
    put(store, 10, "hourly", "good")
    put(store, 11, "monthly", "good")
    newest = put(store, 12, "hourly", "damaged")
    found = catalogue.newest_good(store, "prod", damaged=damaged)
    assert found is not None
    assert found.manifest.requested_at == "2026-01-31T11:00:00Z"
    assert [newest in error.message for error in damaged] == [True]
    assert store.failures.calls.count("read") == 2


def test_a_listing_that_fails_is_no_answer() -> None:
    store = FakeStore()
    put(store, 10, "hourly", "good")
    store.failures.always("keys", StoreError("no"))
    with pytest.raises(StoreError):
        catalogue.newest_good(store, "prod", damaged=[])
