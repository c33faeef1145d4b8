"""The spool over time: what is old goes, what a crash left is told apart from what somebody writes now."""

import os
import time
from pathlib import Path

import pytest

from agent.adapters import spool as spools
from agent.adapters.spool import Spool
from agent.domain import request as requests
from agent.domain.request import Record, Result

pytestmark = pytest.mark.integration
FIRST, SECOND = "snapshot-1111", "snapshot-2222"


def record(op_id: str = FIRST) -> Record:
    return Record(
        requests.make(op_id=op_id, operation="snapshot", trace_id="1" * 32, requested_at="2026-01-31T12:00:00Z")
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.create()
    return made


def test_of_two_ends_that_a_crash_left_the_newer_generation_counts(spool: Spool) -> None:
    ended = Result(FIRST, 1, "1" * 32, "snapshot", "failed", 1, "2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
    spool.finish(Record(record().request, 1, 1, None, (ended,)))
    stale = spool.path("failed", FIRST).read_bytes()
    newer = Result(FIRST, 2, "1" * 32, "snapshot", "refused", 1, "2026-01-31T13:00:00Z", "2026-01-31T13:00:01Z")
    spool.finish(Record(record().request, 2, 1, None, (ended, newer)))
    spool.path("failed", FIRST).write_bytes(stale)
    found = spool.find(FIRST)
    assert found is not None
    assert (found.state, found.record.generation) == ("refused", 2)


def test_old_results_go_and_young_ones_stay(spool: Spool) -> None:
    now = time.time()
    for op_id, age_s in ((FIRST, 100), (SECOND, 10)):
        result = Result(op_id, 1, "1" * 32, "snapshot", "failed", 1, "2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
        spool.finish(replace_results(record(op_id), result))
        os.utime(spool.path("failed", op_id), (now - age_s, now - age_s))
    assert spool.prune(now - 50) == 1
    assert spool.names("failed") == [f"{SECOND}.json"]


def replace_results(one: Record, result: Result) -> Record:
    return Record(one.request, one.generation, one.attempt, one.acceptance, (result,))


def test_only_old_unfinished_writes_are_swept(spool: Spool) -> None:
    now = time.time()
    for state in ("incoming", "running", "progress"):
        for name, age_s in ((".old.json.0.tmp", 100), (".young.json.0.tmp", 10)):
            path = spool.folder / state / name
            path.write_text("{")
            os.utime(path, (now - age_s, now - age_s))
    spool.sweep_unfinished_writes(now - 50)
    left = {path.name for path in spool.folder.glob("*/.*")}
    assert left == {".young.json.0.tmp"}


def test_progress_that_can_not_be_written_ends_no_operation(spool: Spool) -> None:
    (spool.folder / "progress").rmdir()
    spool.write_progress(FIRST, {"step": "save"})
    assert spool.read_progress(FIRST) == {}


def test_a_folder_that_can_not_be_watched_is_served_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a node whose inotify instances are used up."""
    with spools.watch([tmp_path / "none"], lambda: None):
        pass
    assert [vars(line)["event"] for line in caplog.records] == ["spool.unwatched"]


def test_a_request_that_can_not_be_put_aside_leaves_no_reason_of_it(spool: Spool) -> None:
    (spool.folder / "incoming" / "x.json").write_text("{")
    (spool.folder / "rejected").rmdir()
    with pytest.raises(OSError, match="No such file"):
        spool.reject("x.json", "not valid", "2026-01-31T12:00:00Z")
    assert spool.names("incoming") == ["x.json"]
