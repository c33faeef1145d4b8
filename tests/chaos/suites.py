"""Which suites there are, and what runs, chooses and tells the cases of each."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import (
    cases,
    place,
    request_report,
    run,
    sabotage,
    snapshot_cases,
    snapshot_place,
    snapshot_report,
    snapshot_run,
    snapshot_sabotage,
)
from tests.chaos.place import World
from tests.chaos.report import Layout
from tests.chaos.snapshot_place import Worlds
from tests.chaos.verdict import Verdict


@dataclass(frozen=True)
class Suite:
    """One suite. What `running` gives is what its cases are run in; it has the S3 server as `s3`.

    `chosen` gives the cases of seeds; its last argument is a file for what a clean run told, of these very sources.
    """

    layout: Layout
    sabotages: Collection[str]
    running: Callable[[Path], AbstractContextManager[Any]]
    chosen: Callable[[Any, Sequence[int], Path], list[str]]
    run: Callable[[Any, str, str, Path], Verdict]


def _of_requests(world: World, seeds: Sequence[int], points_file: Path) -> list[str]:
    if not points_file.exists():
        points = {store: run.record(world, store) for store in cases.STORES}
        points |= {way: run.record(world, "directory", way) for way in cases.WAYS_OF_ENDING_OTHERWISE}
        points_file.write_text(json.dumps(points))
    matrix = cases.matrix(json.loads(points_file.read_text()))
    print(f"chaos: {len(matrix)} cases in the matrix, dealt to {cases.MATRIX_SEEDS} seeds")
    return [case for seed in seeds for case in cases.of_seed(seed, matrix)]


def _of_snapshots(worlds: Worlds, seeds: Sequence[int], points_file: Path) -> list[str]:
    return [case for seed in seeds for case in snapshot_cases.of_seed(seed)]


SUITES = {
    "requests": Suite(
        request_report.LAYOUT, sabotage.SABOTAGES, place.running, _of_requests,
        lambda world, case, defect, keep: run.run(world, case, sabotage=defect, keep=keep),
    ),
    "snapshots": Suite(
        snapshot_report.LAYOUT, snapshot_sabotage.SABOTAGES, snapshot_place.running, _of_snapshots,
        lambda worlds, case, defect, keep: snapshot_run.run(worlds, case, sabotage=defect, keep=keep),
    ),
}  # fmt: skip
