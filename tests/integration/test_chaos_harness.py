"""The chaos suite finds defects: each one put into the agent on purpose is seen, and the agent as it is passes."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos import place, run, snapshot_place, snapshot_run
from tests.chaos.place import World
from tests.chaos.snapshot_place import Worlds

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
CASES = {
    "manifest-without-condition": ("s3 class-race/new", "the askers were told"),
    "former-attempt-lives": (
        "directory submit tool:{save}:hang worker:spawn:etcdctl.snapshot-save:1:after>self", "orphan: sleep",
    ),
    "killed-files-stay": ("directory submit worker:step:save:1:leaving>self", "left over: work/"),
    "manifest-of-bad-data": ("directory submit", "its data have another sha256"),
    "running-before-end": ("directory submit worker:create:spool/done:1:before>self", "lost: "),
}  # fmt: skip
OF_SNAPSHOTS = {
    "completed-before-verified": ("s3 small verify@leaving kill-worker once", "data without a manifest, allowed are 0"),
    "uploads-stay": ("s3 small part@1-after kill-worker once", "upload left: "),
    "outbox-emptied-before-shipped": ("s3 small ship-complete@1 deny once", "lost: "),
    "refused-manifest-counts": ("s3 small manifest@1 deny once", "lost: "),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with place.running(tmp_path_factory.mktemp("chaos") / "world") as made:
        yield made


@pytest.fixture(scope="module")
def save(world: World) -> int:
    """Which of the operation's calls of etcd's tools saves the snapshot, by a clean run."""
    calls = [point for point in run.record(world, "directory") if ":spawn:etcd" in point and point.endswith(":before")]
    return next(number for number, call in enumerate(calls, 1) if "snapshot-save" in call)


@pytest.mark.parametrize("defect", CASES)
def test_a_defect_breaks_its_case_and_nothing_else_does(world: World, save: int, defect: str) -> None:
    text, problem = CASES[defect]
    case = text.format(save=save)
    assert run.run(world, case).problems == []
    broken = run.run(world, case, sabotage=defect)
    assert any(problem in told for told in broken.problems), broken


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with snapshot_place.running(tmp_path_factory.mktemp("chaos") / "worlds") as made:
        yield made


@pytest.mark.parametrize("defect", OF_SNAPSHOTS)
def test_a_defect_of_storing_breaks_its_case_and_nothing_else_does(worlds: Worlds, defect: str) -> None:
    case, problem = OF_SNAPSHOTS[defect]
    with ThreadPoolExecutor(2) as pool:  # they mostly wait
        both = [pool.submit(snapshot_run.run, worlds, case, sabotage=put_in) for put_in in ("", defect)]
    sound, broken = (one.result() for one in both)
    assert (sound.problems, sound.hits > 0, sound.lost) == ([], True, 0), sound
    assert any(problem in told for told in broken.problems), broken


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small file system")
def test_a_disk_is_really_full_and_mended_again(worlds: Worlds) -> None:
    verdict = snapshot_run.run(worlds, "directory small manifest@begin full-store once")
    assert (verdict.problems, verdict.skipped, verdict.hits, verdict.kept, verdict.shipped) == ([], "", 1, 1, 1)
