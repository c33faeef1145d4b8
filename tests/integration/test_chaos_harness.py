"""The chaos suite finds defects: each one put into the agent on purpose is seen, and the agent as it is passes."""

from collections.abc import Iterator

import pytest

from tests.chaos import place, run
from tests.chaos.place import World

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
