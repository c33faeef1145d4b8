"""Cancelling a real snapshot: nothing half of it is left, neither on disk nor in the store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.operations import leftovers
from agent.operations.steps import Job
from tests.integration.daemon_node import DaemonNode, node_in
from tests.integration.intake_node import record
from tests.integration.scripted_node import is_alive
from tests.sandbox.processes import wait_until
from tests.unit.fakes import FakeStore

pytestmark = pytest.mark.integration
FIRST, SECOND = "snapshot-1111", "snapshot-2222"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        yield made


def test_a_snapshot_in_the_middle_leaves_nothing_and_the_next_one_is_taken(node: DaemonNode) -> None:
    node.start()
    node.hold()
    node.submit(FIRST)
    etcdctl = node.until_saving()
    worker = node.worker_of(etcdctl)
    ended = node.command("ops", "cancel", FIRST, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["cancelled"]) == (0, True)
    wait_until(lambda: not is_alive(etcdctl) and not is_alive(worker), "it lives on")
    wait_until(node.nothing_half_is_left, "something half is left")
    assert node.stored("data") == node.stored("manifest") == []
    node.go_on()
    node.submit(SECOND)
    assert node.until_ended(SECOND).status == "succeeded"


def test_an_operations_folder_goes_even_if_a_crash_left_it_empty(tmp_path: Path) -> None:
    (tmp_path / FIRST).mkdir()
    leftovers.remove_operation(tmp_path, FIRST)
    leftovers.remove_operation(tmp_path, SECOND)
    assert list(tmp_path.iterdir()) == []


def test_the_upload_of_a_killed_attempt_is_given_up_with_its_operation(tmp_path: Path) -> None:
    def job(op_id: str) -> Job:
        made = Job(record(op_id).request, 1, tmp_path, "prod", "node-1", "", "1.0")
        made.folder.mkdir(parents=True)
        leftovers.Journal(made.folder).begin(f"hourly/data/prod/{op_id}", "upload-1")
        return made

    store, first, second = FakeStore(), job(FIRST), job(SECOND)
    leftovers.give_uploads_up(first, lambda: store)
    assert store.abandoned == [f"hourly/data/prod/{FIRST}"]
    assert not (first.folder / leftovers.JOURNAL_NAME).exists()
    assert (second.folder / leftovers.JOURNAL_NAME).exists()
    leftovers.give_uploads_up(first, lambda: FakeStore(abandoned=store.abandoned))
    assert len(store.abandoned) == 1
