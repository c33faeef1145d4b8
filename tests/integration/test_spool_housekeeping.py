"""The spool over time: what is old goes, what a crash left is told apart from what somebody writes now."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from agent.adapters import process
from agent.adapters import spool as spools
from agent.adapters.files import Lock
from agent.adapters.spool import Spool
from agent.domain import request as requests
from agent.domain.request import Record, Result
from agent.housekeeping import Housekeeping, WallClock

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


def finish(spool: Spool, *op_ids: str) -> None:
    for op_id in op_ids:
        result = Result(op_id, 1, "1" * 32, "snapshot", "failed", 1, "2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
        spool.finish(replace_results(record(op_id), result))


def housekeeping(spool: Spool) -> Housekeeping:
    (spool.folder.parent / "locks").mkdir(exist_ok=True)
    return Housekeeping(spool=spool, locks=spool.folder.parent / "locks", kept_s=100.0)


def later(spool: Spool, seconds: float) -> None:
    """As if the daemon had looked so much earlier."""
    ledger = spool.read_ledger()
    spool.write_ledger(msgspec.structs.replace(ledger, boot_clock_s=ledger.boot_clock_s - seconds))


def test_old_results_go_with_their_locks_and_young_ones_stay(spool: Spool) -> None:
    house = housekeeping(spool)
    locks = spool.folder.parent / "locks"
    finish(spool, FIRST)
    (locks / FIRST).touch()
    assert house.prune() == 0
    later(spool, 60)
    finish(spool, SECOND)
    (locks / SECOND).touch()
    assert house.prune() == 0
    later(spool, 60)
    assert house.prune() == 1
    assert spool.names("failed") == [f"{SECOND}.json"]
    assert [path.name for path in locks.iterdir()] == [SECOND]


@pytest.mark.parametrize("days", [365, -365])
def test_a_jump_of_the_wall_clock_prunes_nothing_and_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    house, clock = housekeeping(spool), WallClock()
    finish(spool, FIRST)
    house.prune()
    moment = time.time() + days * 86400
    monkeypatch.setattr(time, "time", lambda: moment)
    os.utime(spool.path("failed", FIRST), (moment - 2 * days * 86400,) * 2)
    clock.look()
    clock.look()
    assert house.prune() == 0
    assert [round(vars(line)["jumped_s"] / 86400) for line in caplog.records] == [days]


def test_after_a_reboot_the_time_that_the_node_was_off_does_not_count(spool: Spool) -> None:
    house = housekeeping(spool)
    finish(spool, FIRST)
    house.prune()
    ledger = spool.read_ledger()
    boot_clock_s = process.boot_clock_s()
    spool.write_ledger(msgspec.structs.replace(ledger, boot_id="another", boot_clock_s=1e9, counted_s=0.0))
    house.prune()
    assert spool.read_ledger().counted_s == pytest.approx(boot_clock_s, abs=60)


def test_a_ledger_that_can_not_be_read_keeps_everything_longer(spool: Spool) -> None:
    house = housekeeping(spool)
    finish(spool, FIRST)
    house.prune()
    later(spool, 1000)
    (spool.folder / "ages.json").write_bytes(b"\xff")
    assert house.prune() == 0
    assert spool.names("failed") == [f"{FIRST}.json"]


@pytest.mark.parametrize("state", ["held", "live"])
def test_a_lock_that_is_held_or_of_use_stays(spool: Spool, state: str) -> None:
    house = housekeeping(spool)
    finish(spool, FIRST)
    lock = Lock(spool.folder.parent / "locks" / FIRST)
    assert lock.try_acquire("1 boot")
    if state == "live":
        lock.release()
        spool.update_running(record())
    house.prune()
    later(spool, 1000)
    assert house.prune() == 1
    assert lock.path.read_text() == "1 boot"
    lock.release()


def replace_results(one: Record, result: Result) -> Record:
    return Record(one.request, one.generation, one.attempt, one.acceptance, (result,))


def test_only_unfinished_writes_that_stay_are_swept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    house, moment = housekeeping(spool), [process.boot_clock_s()]
    monkeypatch.setattr(process, "boot_clock_s", lambda: moment[0])
    for state in ("incoming", "running", "progress", ""):
        (spool.folder / state / ".old.json.0.tmp").write_text("{")
        os.utime(spool.folder / state / ".old.json.0.tmp", (0, 0))
    house.sweep()
    assert len(spool.unfinished_writes()) == 4
    moment[0] += 59
    (spool.folder / "incoming" / ".young.json.0.tmp").write_text("{")
    house.sweep()
    moment[0] += 2
    house.sweep()
    assert [path.name for path in spool.unfinished_writes()] == [".young.json.0.tmp"]


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
