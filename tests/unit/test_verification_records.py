"""What one node finds is on record even where another node's record of the same second has the same name."""

from pathlib import Path

import pytest

from agent.errors import SnapshotInvalid, StoreError
from agent.operations import catalogue, records
from tests.unit.test_verify_operation import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_two_outcomes_of_one_second_are_both_on_record(node: Node) -> None:
    manifest = node.take(1)
    identifier = manifest.snapshot_id
    node.verify(identifier)
    (passed,) = [key for key in node.store.objects if ".verified-" in key]
    other_node = node.store.objects[passed].replace(b'"node-1"', b'"node-2"')
    del node.store.objects[passed]

    def first_here(call: str, key: str) -> None:
        if call == "put_if_absent" and not any(".verified-" in known for known in node.store.objects):
            node.store.objects[key] = other_node

    node.store.before = first_here
    node.replace_data(manifest, b"damaged")
    with pytest.raises(SnapshotInvalid):
        node.verify(identifier)
    assert sorted(record.passed for record in node.records()) == [False, True]
    backup = catalogue.find(node.store, "prod", identifier)
    assert backup is not None
    assert not backup.is_good


def test_a_record_that_finds_no_name_is_a_failure(node: Node) -> None:
    manifest = node.take(1)

    def always_taken(call: str, key: str) -> None:
        node.store.objects.setdefault(key, b"taken")

    node.store.before = always_taken
    with pytest.raises(StoreError, match="can not be recorded"):
        node.verify(manifest.snapshot_id)
    assert sum(".verified-" in key for key in node.store.objects) == records.MOST_IN_A_SECOND
