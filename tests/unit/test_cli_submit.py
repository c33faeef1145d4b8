"""`submit`: exit codes, one answer, no wait for what was rejected, and a start that loads nothing heavy."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.spool import Spool
from agent.cli import main, waiting
from agent.domain.request import ErrorResult, Record, Result, Status
from tests.unit import stand_in_daemon

TRACE_ID = "65b9e4c0aaaaaaaaaaaaaaaaaaaaaaaa"
MOMENT = "2026-01-31T12:00:00Z"
LOADED = """
import sys
from agent.cli import main
code = main(sys.argv[1:])
heavy = sorted(name for name in ("boto3", "botocore", "rich", "watchdog") if name in sys.modules)
print(code, heavy, file=sys.stderr)
"""


def result(record: Record, status: Status, error: ErrorResult | None = None) -> Result:
    request = record.request
    return Result(
        request.op_id, record.generation, request.trace_id, request.operation, status, 1, MOMENT, MOMENT, error=error
    )


def succeeded(record: Record) -> Result:
    return result(record, "succeeded")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("TRACE_ID", TRACE_ID)
    return tmp_path


def submit(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> dict[str, Any]:
    assert main(["submit", "snapshot", "--json", *words]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    document: dict[str, Any] = json.loads(told.out)
    return document


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_a_wait_that_is_no_time_is_bad_usage(root: Path, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["submit", "snapshot", "--timeout", seconds]) == 2
    assert "--timeout" in capsys.readouterr().err
    assert not (root / "var/lib/etcd-agent/spool").exists()


@pytest.mark.parametrize(
    "status, error, code",
    [
        ("succeeded", None, 0),
        ("failed", ErrorResult("etcd_error", "no", "look"), 1),
        ("failed", ErrorResult("bad_input", "no", "look"), 2),
        ("failed", ErrorResult("of_a_newer_version", "no", "look"), 1),
        ("refused", ErrorResult("refused", "[corrupt] no", "look"), 3),
    ],
)
def test_the_exit_code_is_the_results(
    root: Path, capsys: pytest.CaptureFixture[str], status: Status, error: ErrorResult | None, code: int
) -> None:
    with stand_in_daemon.running(root, lambda record: result(record, status, error)) as daemon:
        answer = submit(capsys, code, "--op-id", "snapshot-0001", "--param", "emergency=true")
    assert (answer["op_id"], answer["trace_id"]) == ("snapshot-0001", TRACE_ID)
    assert answer["result"]["status"] == status
    (request,) = daemon.asked
    assert (request.trace_id, request.params) == (TRACE_ID, {"emergency": "true"})


def test_a_wait_that_ends_before_the_operation_says_how_far_it_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in_daemon.running(root, lambda record: None) as daemon:
        daemon.spool.write_progress("snapshot-0002", {"step": "save", "percent": 5})
        answer = submit(capsys, 4, "--op-id", "snapshot-0002", "--timeout", "0.2")
    assert answer["progress"] == {"step": "save", "percent": 5}


def test_no_wait_returns_once_it_is_durable(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(capsys, 0, "--op-id", "snapshot-0003", "--no-wait") == {
        "op_id": "snapshot-0003", "trace_id": TRACE_ID, "state": "queued",
    }  # fmt: skip
    assert Spool(root / "var/lib/etcd-agent/spool").read("incoming", "snapshot-0003").request.trace_id == TRACE_ID


def test_without_a_daemon_the_wait_ends_with_5(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NO_DAEMON_WAIT_S", 0.1)
    assert submit(capsys, 5, "--op-id", "snapshot-0004")["error"]["code"] == "no_daemon"


def test_an_ended_operation_answers_again_with_the_trace_that_came_first(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in_daemon.running(root, succeeded) as daemon:
        first = submit(capsys, 0, "--op-id", "snapshot-0005")
        monkeypatch.setenv("TRACE_ID", "65b9e4c0bbbbbbbbbbbbbbbbbbbbbbbb")
        assert submit(capsys, 0, "--op-id", "snapshot-0005") == first
        assert submit(capsys, 0, "--op-id", "snapshot-0005", "--no-wait")["state"] == "done"
    assert len(daemon.asked) == 1


def test_what_the_daemon_rejects_is_not_waited_for(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "GONE_WAIT_S", 0.05)
    spool = Spool(root / "var/lib/etcd-agent/spool")
    spool.create()
    rejected = threading.Event()

    def reject() -> None:
        while not rejected.is_set():
            for name in spool.names("incoming"):
                spool.reject(name, "an unknown field", MOMENT)
                rejected.set()

    thread = threading.Thread(target=reject)
    thread.start()
    try:
        error = submit(capsys, 2, "--op-id", "snapshot-0006", "--timeout", "60")["error"]
    finally:
        rejected.set()
        thread.join()
    assert error["message"] == "the daemon rejected snapshot-0006: an unknown field"


@pytest.mark.parametrize("words", [["--param", "x"], ["--param", "x=1"], ["--op-id", "short"], ["--requested-at", "y"]])
def test_bad_input_is_told_before_anything_is_queued(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert submit(capsys, 2, "--no-wait", *words)["error"]["code"] == "bad_input"
    assert not list(root.rglob("incoming/*.json"))


@pytest.mark.parametrize("words", [["submit", "snapshot", "--no-wait"], ["--version"], ["ops", "list", "--json"]])
def test_it_starts_without_what_is_heavy(root: Path, words: list[str]) -> None:
    Spool(root / "var/lib/etcd-agent/spool").create()
    completed = subprocess.run(
        [sys.executable, "-c", LOADED, *words], env={**os.environ}, capture_output=True, text=True, check=True
    )
    assert completed.stderr.splitlines()[-1] == "0 []"


def lines(root: Path, *events: str) -> list[dict[str, Any]]:
    log = (root / "var/log/etcd-agent/agent.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, log) if line["event"] in events]


def test_the_log_tells_what_each_caller_was_answered(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "var/log/etcd-agent").mkdir(parents=True)
    with stand_in_daemon.running(root, succeeded):
        submit(capsys, 0, "--op-id", "snapshot-0007")
        submit(capsys, 0, "--op-id", "snapshot-0007")
    monkeypatch.setattr(waiting, "NO_DAEMON_WAIT_S", 0.1)
    submit(capsys, 5, "--op-id", "snapshot-0008")
    told = lines(root, "request.submitted", "request.joined", "request.answered")
    assert [(line["op_id"][-1], line["event"], line.get("state"), line.get("exit_code")) for line in told] == [
        ("7", "request.submitted", None, None), ("7", "request.answered", "done", 0),
        ("7", "request.joined", "done", None), ("7", "request.answered", "done", 0),
        ("8", "request.submitted", None, None), ("8", "request.answered", None, 5),
    ]  # fmt: skip
    assert told[-1]["error_code"] == "no_daemon"
    assert {line["trace_id"] for line in told} == {TRACE_ID}


def test_a_time_to_come_is_refused_so_that_no_snapshot_stays_the_latest_until_then(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = submit(capsys, 2, "--no-wait", "--requested-at", "9999-12-31T23:59:59Z")
    assert told["error"]["code"] == "bad_input"
    assert Spool(root / "var/lib/etcd-agent/spool").names("incoming") == []


def test_of_two_with_other_content_the_loser_never_gets_the_others_result(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the first was there, and put its own beside it once that one was claimed."""
    with stand_in_daemon.running(root, succeeded) as daemon:
        submit(capsys, 0, "--op-id", "snapshot-0007")
        monkeypatch.setattr(daemon.spool.__class__, "find", first_not(daemon.spool.__class__.find))
        monkeypatch.setattr(daemon, "look", lambda: reject_all(daemon.spool))
        error = submit(capsys, 2, "--op-id", "snapshot-0007", "--param", "emergency=true")["error"]
    assert (error["code"], "other work" in error["message"]) == ("bad_input", True)


def reject_all(spool: Spool) -> None:
    for name in spool.names("incoming"):
        spool.reject(name, "known for other work", MOMENT)


def first_not(find: Any) -> Any:
    """The first look finds nothing yet."""
    looks: list[int] = []

    def looked(self: Spool, op_id: str, **how: bool) -> Any:
        looks.append(1)
        return find(self, op_id, **how) if len(looks) > 1 else None

    return looked
