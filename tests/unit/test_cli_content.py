"""`snapshot verify --level content`: what the words ask for, and how a difference shows in the lists."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.domain import snapshot
from agent.domain.request import Record, Result
from agent.domain.snapshot import Check, Manifest, Outcome
from tests.unit import stand_in_daemon
from tests.unit.fakes import cut_off
from tests.unit.test_cli_snapshot import MOMENT, document, put, root, run, stored
from tests.unit.test_snapshot_domain import verification

__all__ = ["root"]  # the fixture
OUTPUT = {
    "snapshot_id": "20260131T120000Z-01234567", "level": "content", "outcome": "passed", "revision": 21,
    "compared": "member a and member b agree at revision 21", "store": "s3://backups",
}  # fmt: skip


def found(root: Path, of: Manifest, outcome: Outcome) -> None:
    record = msgspec.structs.replace(
        verification(outcome), snapshot_id=of.snapshot_id, level="content",
        checks=(Check("content", outcome, MOMENT, "a and b"),), message="" if outcome == "passed" else f"{outcome}!",
    )  # fmt: skip
    put(root, snapshot.verification_key(of, "content", datetime(2026, 2, 1, tzinfo=UTC)), snapshot.encode(record))


@pytest.mark.parametrize(
    "words, params",
    [
        (["latest"], {"id": "latest"}),
        (["latest", "--level", "structure"], {"id": "latest"}),
        (["latest", "--level", "content"], {"id": "latest", "level": "content"}),
        (["latest", "--level", "content", "--force"], {"id": "latest", "level": "content", "force": "true"}),
    ],
)
def test_the_words_become_parameters(
    root: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], params: dict[str, str]
) -> None:
    def answer(record: Record) -> Result:
        return Result(
            record.request.op_id, 1, record.request.trace_id, "verify", "succeeded", 1, MOMENT, MOMENT, output=OUTPUT
        )

    with stand_in_daemon.running(root, answer) as daemon:
        screen, _ = run(capsys, 0, "verify", *words)
    (request,) = daemon.asked
    assert request.params == params
    assert "20260131T120000Z-01234567: member a and member b agree at revision 21" in screen


@pytest.mark.parametrize(
    "words", [["--all", "--level", "content"], ["latest", "--force"], ["latest", "--level", "drill"]]
)
def test_words_that_do_not_fit_are_told(root: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    assert document(capsys, 2, "verify", *words)["error"]["code"] == "bad_input"


def test_what_differs_is_flagged_and_not_the_latest_and_what_can_not_be_compared_is_as_before(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, equal, differs = (stored(root, hour) for hour in (10, 11, 12))
    found(root, kept, "not_comparable")
    found(root, equal, "passed")
    found(root, differs, "failed")
    listed = document(capsys, 0, "list")
    assert listed["latest"] == equal.snapshot_id
    rows = {row["snapshot_id"]: row for row in listed["snapshots"]}
    assert [rows[one.snapshot_id]["good"] for one in (kept, equal, differs)] == [True, True, False]
    assert [rows[one.snapshot_id]["found_different"] for one in (kept, equal, differs)] == ["", "", MOMENT]
    assert rows[equal.snapshot_id]["verified"]["level"] == "content"
    assert rows[kept.snapshot_id]["verified"]["level"] == "stored"
    assert [row["found_damaged"] + row["last_read_back"] for row in rows.values()] == ["", "", ""]
    screen, _ = run(capsys, 0, "list")
    assert screen.count("DIFFERS from another member") == 1
    assert "content differs, found" in run(capsys, 0, "show", differs.snapshot_id)[0]
    assert "not_comparable" in run(capsys, 0, "show", kept.snapshot_id)[0]


def test_a_dry_run_says_why_nobody_would_be_asked(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(root, 10)
    monkeypatch.setattr(Etcdctl, "status", lambda etcd: cut_off())
    monkeypatch.setattr(Etcdctl, "members", lambda etcd: [])
    monkeypatch.setattr(Etcdctl, "alarms", lambda etcd: [])
    verdict = document(capsys, 3, "verify", "latest", "--level", "content", "--dry-run")
    assert verdict["would_run"] is False
    assert verdict["error"]["message"].startswith("[content-unhealthy]")
