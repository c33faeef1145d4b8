"""`trace ID`: every id form, any files, the tree for people and as JSON, and no traceback whatever a file holds."""

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli import main
from tests.unit.test_timeline import COMMAND, SUBMIT, TRACE_ID, WORKER, line, whole_story


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's own log file, with the whole story in it."""
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "140")
    path = tmp_path / "var/log/etcd-agent/agent.jsonl"
    path.parent.mkdir(parents=True)
    write(path, whole_story())
    return path


def write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in lines))


def run(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert main(["trace", *words]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return told.out if code == 0 else told.err


@pytest.mark.parametrize(
    "form",
    [
        TRACE_ID,
        TRACE_ID.upper(),
        "65b9e4c0-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
        "1-65b9e4c0-aaaaaaaaaaaaaaaaaaaaaaaa",
        f"00-{TRACE_ID}-bbbbbbbbbbbbbbbb-01",
    ],
)
def test_every_form_of_the_id_finds_the_lines(log: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert json.loads(run(capsys, 0, form, "--json"))["lines"] == len(whole_story())


def test_the_tree_shows_who_asked_what_ran_and_how_long_it_took(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [" ".join(row.split()) for row in run(capsys, 0, TRACE_ID).splitlines()]
    assert any(row.startswith("+0.000 s etcd-agent-lambda-backup 100 ms") for row in rows)
    assert any("+0.090 s ├─ command.sent: command.sent happened" in row for row in rows)
    assert any(f"SSM command {COMMAND} on i-1" in row for row in rows)
    assert any("+0.510 s └─ save 999 ms" in row for row in rows)
    assert TRACE_ID in rows[0]
    assert "9 lines" in rows[0]


def test_failures_are_told_with_their_hint_and_later_attempts_with_their_number(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"level": "ERROR", "error_code": "no_space", "error_message": "[full]", "error_hint": "make room"}
    write(log, [line(0, "operation.started", WORKER, attempt=2), line(9, "operation.failed", WORKER, error)])
    screen = run(capsys, 0, TRACE_ID)
    assert "snapshot attempt 2 on node-1 failed" in screen
    assert "no_space: [full]" in screen
    assert "next: make room" in screen


def test_a_part_of_which_no_line_tells_the_end_has_no_duration(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(log, [line(0, "operation.started", WORKER, attempt=1)])
    assert "snapshot on node-1 unfinished ?" in " ".join(run(capsys, 0, TRACE_ID).split())


def test_a_request_that_joined_another_trace_names_it(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(log, [line(0, "trace.adopted", SUBMIT, first_trace_id="1" * 32)])
    assert f"etcd-agent trace {'1' * 32}" in run(capsys, 0, TRACE_ID)


def test_rotated_files_are_read_too_and_a_line_in_two_files_counts_once(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = whole_story()
    write(log, story[4:])
    write(log.with_name("agent.jsonl.1"), story[2:6])
    write(log.with_name("agent.jsonl.2"), story[:2])
    document = json.loads(run(capsys, 0, TRACE_ID, "--json"))
    assert document["lines"] == len(story)
    assert [Path(name).name for name in document["files"]] == ["agent.jsonl", "agent.jsonl.1", "agent.jsonl.2"]


def test_named_files_need_no_configuration_and_may_be_as_other_tools_print_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCD_AGENT_NO_SUCH__KEY", "1")
    journal, stream = tmp_path / "journal", io.TextIOWrapper(io.BytesIO(json.dumps(whole_story()[1]).encode()))
    journal.write_text(f"Jan 31 12:00:00 host etcd-agent[1]: {json.dumps(whole_story()[3])}\nnot json\n\n{TRACE_ID}\n")
    monkeypatch.setattr(sys, "stdin", stream)
    document = json.loads(run(capsys, 0, TRACE_ID, str(journal), "-", "--json"))
    assert (document["lines"], document["lines_that_are_no_json"]) == (2, 2)
    assert document["files"] == [str(journal), "standard input"]


def test_nothing_found_says_which_files_were_read(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, 1, "1" * 32)
    assert f"no line of trace {'1' * 32}" in told
    assert str(log) in told


def test_what_is_no_id_or_no_file_is_bad_input(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no trace id" in run(capsys, 2, "../../etc")
    assert "No such file" in run(capsys, 2, TRACE_ID, str(log.with_name("none")))
    assert "Is a directory" in run(capsys, 2, TRACE_ID, str(log.parent))
    log.unlink()
    assert "does not exist" in run(capsys, 1, TRACE_ID)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a normal user: root may read everything")
def test_a_file_that_may_not_be_read_asks_for_sudo(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.chmod(0)
    assert "sudo" in run(capsys, 1, TRACE_ID)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    garbage=st.lists(
        st.binary(max_size=60)
        | st.builds(lambda head, tail: head + TRACE_ID.encode() + tail, st.binary(max_size=20), st.binary(max_size=20))
        | st.builds(
            lambda name, text: json.dumps({"trace_id": TRACE_ID, name: text}).encode(),
            st.sampled_from(["message", "event", "error_code", "service", "ssm_command_id", "span_id", "node"]),
            st.text(max_size=10) | st.integers() | st.lists(st.none(), max_size=2),
        ),
        max_size=6,
    )
)
def test_garbage_never_ends_in_a_traceback(log: Path, capsys: pytest.CaptureFixture[str], garbage: list[bytes]) -> None:
    log.write_bytes(b"\n".join(garbage))
    for words in ([TRACE_ID], [TRACE_ID, "--json"]):
        assert main(["trace", *words]) in (0, 1)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        assert "\x1b" not in told.out


@pytest.mark.parametrize("how", ["--json", "--"])
@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "9999-12-31T23:59:59.999999Z"]
)
def test_a_time_of_which_there_is_no_date_here_is_as_none(
    log: Path, capsys: pytest.CaptureFixture[str], moment: str, how: str
) -> None:
    write(log, [*whole_story(), line(5, "odd.time", SUBMIT) | {"timestamp": moment}])
    assert run(capsys, 0, how, TRACE_ID)


@pytest.mark.parametrize("depth", [*range(900, 1000, 2)])
def test_a_field_that_is_too_deep_to_be_shown_is_as_none(
    log: Path, capsys: pytest.CaptureFixture[str], depth: int
) -> None:
    deep = json.dumps(line(5, "odd.depth", SUBMIT, node="DEEP")).replace('"DEEP"', "[" * depth + "]" * depth)
    log.write_text(f"{json.dumps(line(0, 'request.submitted', SUBMIT))}\n{deep}\n")
    assert run(capsys, 0, TRACE_ID)
