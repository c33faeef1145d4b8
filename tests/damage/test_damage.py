"""The short run of `make damaged`: the same damage every time."""

import logging
from collections.abc import Iterator

import pytest

from tests.damage import kinds, resealing, running, taking
from tests.damage.place import Place
from tests.etcd_versions import servers
from tests.fuzz.target import in_memory

CASES, RESEALED, SEED = 650, 40, 1
pytestmark = [pytest.mark.integration, pytest.mark.etcd]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    logging.disable(logging.CRITICAL)
    try:
        with in_memory() as folder:
            yield Place(folder, taking.take(folder / "etcd", servers.tools_or_skip(taking.VERSION)))
    finally:
        logging.disable(logging.NOTSET)


def test_the_undamaged_one_is_accepted(place: Place) -> None:
    """Else the others would show nothing."""
    assert (place.created(place.raw), len(place.offered())) == ("", 1)
    place.forget_offered()
    assert (place.verified(), place.downloaded()) == ("", "")


def test_no_damaged_snapshot_is_accepted_by_create_verify_or_download(place: Place) -> None:
    runs = place.tool.runs
    found = running.run(place, CASES, SEED)
    assert found.accepted == []
    assert place.offered() == []
    assert place.tool.runs == runs
    assert {kind for kind, _, _ in found.caught} == kinds.KINDS.keys()


def test_with_its_checksum_recomputed_the_manifest_still_tells(place: Place) -> None:
    """What `create` can not tell is what etcd's own tool does not see; that is counted, not forbidden."""
    found = resealing.run(place, RESEALED, SEED, {"3.5": servers.tools_or_skip(taking.VERSION)})
    assert found.accepted == []
    assert found.created == found.said["3.5"][resealing.UNSEEN]
    assert found.said["3.5"][resealing.SEEN] > 0
