"""`ops list` and `ops show`: every state, damaged records and rejections told, for people and as JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.spool import Spool
from agent.cli import main
from agent.domain.request import Acceptance, ErrorResult, Record, Result, Status, StepResult, encode, make

ACCEPTED_AT = "2026-01-31T12:00:00Z"
STEPS = (StepResult("preflight", "succeeded", 120), StepResult("save", "failed", 2300))
REFUSED = ErrorResult("refused", "[no-leader] the member knows no leader", "restore quorum first")


def record(op_id: str, *, status: Status | None = None, error: ErrorResult | None = None, **changes: Any) -> Record:
    fields = {"operation": "snapshot", "trace_id": "1" * 32, "requested_at": ACCEPTED_AT, "op_id": op_id} | changes
    request = make(**fields)
    if status is None:
        return Record(request)
    acceptance = Acceptance(str(fields["requested_at"]), "boot", 1.0, 1800)
    result = Result(
        op_id, 1, "1" * 32, "snapshot", status, 1, ACCEPTED_AT, "2026-01-31T12:00:03Z", STEPS, {"revision": 7}, error
    )
    return Record(request, 1, 1, acceptance, (result,))


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    made = Spool(tmp_path / "var/lib/etcd-agent/spool")
    made.create()
    return made


def put(spool: Spool, state: str, *records: Record) -> None:
    for one in records:
        spool.path(state, one.request.op_id).write_bytes(encode(one))


def run(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int = 0) -> str:
    assert main(list(words)) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return told.out if code == 0 else told.out + told.err


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(capsys, ["ops", "list", "--json", *words]))["operations"]
    return rows


def test_the_list_has_every_state_the_newest_first(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    put(spool, "done", record("snapshot-done", status="succeeded", requested_at="2026-01-31T10:00:00Z"))
    put(spool, "refused", record("snapshot-refused", status="refused", error=REFUSED))
    put(spool, "incoming", record("snapshot-new", requested_at="2026-01-31T13:00:00Z"))
    rows = listed(capsys)
    assert [(row["op_id"], row["state"]) for row in rows] == [
        ("snapshot-new", "incoming"), ("snapshot-refused", "refused"), ("snapshot-done", "done"),
    ]  # fmt: skip
    assert rows[1]["error_code"] == "refused"
    assert rows[1]["duration_ms"] == 2420
    assert [row["op_id"] for row in listed(capsys, "--state", "done", "--state", "failed")] == ["snapshot-done"]


def test_what_is_damaged_or_was_rejected_is_listed_with_its_reason(
    spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    put(spool, "done", record("snapshot-done", status="succeeded"))
    spool.path("failed", "snapshot-cut").write_text('{"request": {')
    spool.path("incoming", "snapshot-bad").write_text("{}")
    spool.reject("snapshot-bad.json", "the request file is not valid", ACCEPTED_AT)
    rows = {row["op_id"]: row for row in listed(capsys)}
    assert rows.keys() == {"snapshot-done", "snapshot-cut", "snapshot-bad"}
    assert "damaged" in rows["snapshot-cut"]["message"]
    assert rows["snapshot-bad"]["state"] == "rejected"
    table = run(capsys, ["ops", "list"])
    assert "the request file is not valid" in table
    assert "damaged: " in table


def test_an_operation_that_runs_again_is_listed_once_with_its_new_state(
    spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record("snapshot-again", status="refused", error=REFUSED)
    put(spool, "refused", first)
    put(spool, "running", Record(first.request, 2, 1, first.acceptance, first.results))
    (row,) = listed(capsys)
    assert (row["state"], row["generation"], row["error_code"]) == ("running", 2, "")


def test_a_long_list_says_what_it_leaves_out(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    put(spool, "done", *(record(f"snapshot-{number:04d}", status="succeeded") for number in range(4)))
    table = run(capsys, ["ops", "list", "--limit", "3"])
    assert table.count("snapshot-0") == 3
    assert "1 older ones" in table
    assert len(listed(capsys, "--limit", "3")) == 4
    assert run(capsys, ["ops", "list", "--limit", "0"]).count("snapshot-0") == 4


def test_show_has_steps_error_and_hint(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    put(spool, "refused", record("snapshot-refused", status="refused", error=REFUSED))
    screen = run(capsys, ["ops", "show", "snapshot-refused"])
    assert ["save", "failed", "2.3", "s"] in [line.split() for line in screen.splitlines()]
    assert "refused: [no-leader] the member knows no leader" in screen
    assert "next: restore quorum first" in screen
    assert f"etcd-agent trace {'1' * 32}" in screen
    document = json.loads(run(capsys, ["ops", "show", "snapshot-refused", "--json"]))
    assert document["state"] == "refused"
    assert document["result"]["error"]["code"] == "refused"


def test_show_tells_how_far_a_running_one_is(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    put(spool, "running", record("snapshot-run"))
    spool.write_progress("snapshot-run", {"step": "save", "bytes": 1048576, "percent": 50})
    assert "step save, 1.0 MiB, 50 %" in run(capsys, ["ops", "show", "snapshot-run"])
    assert json.loads(run(capsys, ["ops", "show", "snapshot-run", "--json"]))["progress"]["percent"] == 50


def test_what_is_not_known_is_told(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    assert "knows no operation snapshot-none" in run(capsys, ["ops", "show", "snapshot-none"], 1)
    assert "no operation id" in run(capsys, ["ops", "show", "../../etc/passwd"], 2)
    spool.path("incoming", "snapshot-bad").write_text("{}")
    spool.reject("snapshot-bad.json", "not valid", ACCEPTED_AT)
    assert "was rejected: not valid" in run(capsys, ["ops", "show", "snapshot-bad"], 1)


def test_an_error_is_json_too_where_json_was_asked_for(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "show", "snapshot-none", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "failed"
    assert main(["ops", "list", "--state", "nonsense", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad_input"


def test_a_node_on_which_no_agent_ever_ran_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path / "bare"))
    assert "no agent ever ran here" in run(capsys, ["ops", "list"], 1)


def test_a_full_disk_below_the_output_is_no_defect_of_ours(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*lines: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.cli.tables.print_json", full)
    assert main(["ops", "list", "--json"]) == 1
    assert "etcd-agent: standard output: No space left on device\n  next: make room there" in capsys.readouterr().err


def test_a_defect_is_told_as_one_with_its_traceback_in_the_log_line(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(document: dict[str, Any]) -> None:
        raise KeyError("missing")

    monkeypatch.setattr("agent.cli.tables.print_json", broken)
    assert main(["ops", "list", "--json"]) == 1
    logged, *told = capsys.readouterr().err.splitlines()
    assert json.loads(logged)["event"] == "command.crashed"
    assert "KeyError" in json.loads(logged)["exc_info"]
    assert told == ["etcd-agent: unexpected error: KeyError: 'missing'", "  next: please report this"]


@pytest.mark.parametrize("op_id", ["../../etc/passwd", "", "A" * 80, "snapshot\n1111"])
def test_a_worker_takes_no_id_that_is_none(spool: Spool, capsys: pytest.CaptureFixture[str], op_id: str) -> None:
    assert "no operation id" in run(capsys, ["worker", "--", op_id], 2)


def test_a_worker_without_a_daemon_s_folders_says_so(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    assert "only the daemon starts workers" in run(capsys, ["worker", "--", "snapshot-1111"], 1)


@pytest.mark.parametrize(
    "content", ["[" * 900 + "]" * 900, '{"bytes": 1e400}', f'{{"bytes": {10**400}}}', '{"step": NaN}']
)
def test_progress_of_any_content_hides_nothing(spool: Spool, capsys: pytest.CaptureFixture[str], content: str) -> None:
    put(spool, "running", record("snapshot-1111"))
    spool.path("progress", "snapshot-1111").write_text(content)
    assert "snapshot-1111" in run(capsys, ["ops", "show", "snapshot-1111"])
    json.loads(run(capsys, ["ops", "show", "snapshot-1111", "--json"]), parse_constant=pytest.fail)


def test_a_pipe_or_a_folder_among_progress_and_reasons_stops_nobody(
    spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    put(spool, "running", record("snapshot-1111"), record("snapshot-2222"))
    os.mkfifo(spool.path("progress", "snapshot-1111"))
    spool.path("progress", "snapshot-2222").mkdir()
    os.mkfifo(spool.folder / "rejected/x.reason.json")
    (spool.folder / "rejected/y.reason.json").mkdir()
    assert "snapshot-1111" in run(capsys, ["ops", "show", "snapshot-1111"])
    assert "snapshot-2222" in run(capsys, ["ops", "show", "snapshot-2222"])
    assert len(listed(capsys)) == 2


def test_sizes_and_durations_that_there_are_not_are_told_or_damaged(
    spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    put(spool, "done", record("snapshot-1111", status="succeeded"))
    path = spool.path("done", "snapshot-1111")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"revision":7', f'"size_bytes":{10**310}'.encode()))
    assert str(10**310)[:50] in run(capsys, ["ops", "show", "snapshot-1111"])
    path.write_bytes(whole.replace(b'"duration_ms":120', f'"duration_ms":{10**310}'.encode()))
    assert "damaged" in run(capsys, ["ops", "list"])
