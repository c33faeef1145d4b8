"""Log lines: one JSON object a line with the trace of the context, whole across rotation and for any text."""

import io
import json
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import logs, trace

log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """Gives the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def configure(stream: io.StringIO, file: Path | None = None, **fields: str) -> None:
    logs.configure(service="etcd-agent", version="1.2.3", level="DEBUG", stream=stream, file=file, fields=fields)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_has_the_fields_of_the_contract() -> None:
    stream = io.StringIO()
    configure(stream, cluster="prod", node="node-1", instance_id="")
    with trace.bound(trace_id="1" * 32, op_id="snapshot-1", operation="snapshot"), trace.span(step="save") as span:
        logs.emit(log, logging.INFO, "step.started", "save started", duration_ms=5)
    (line,) = lines(stream.getvalue())
    timestamp = line.pop("timestamp")
    assert (timestamp[10], timestamp[-8], timestamp[-1]) == ("T", ".", "Z")
    assert line == {
        "level": "INFO", "logger": "tests.logs", "message": "save started", "event": "step.started",
        "service": "etcd-agent", "version": "1.2.3", "cluster": "prod", "node": "node-1", "trace_id": "1" * 32,
        "op_id": "snapshot-1", "operation": "snapshot", "span_id": span, "step": "save", "duration_ms": 5,
    }  # fmt: skip


def test_a_line_of_a_library_carries_the_trace_and_an_event_too() -> None:
    stream = io.StringIO()
    configure(stream)
    with trace.bound(trace_id="2" * 32):
        logging.getLogger("some.library").warning("retrying %s", "it")
    (line,) = lines(stream.getvalue())
    assert (line["message"], line["event"], line["trace_id"]) == ("retrying it", logs.DEFAULT_EVENT, "2" * 32)


def test_chatty_libraries_are_heard_from_warning_on() -> None:
    stream = io.StringIO()
    configure(stream)
    for name in logs.LIBRARIES_AT_WARNING:
        logging.getLogger(name).info("chatter")
    assert stream.getvalue() == ""


def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    configure(stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("it broke")
    (line,) = lines(stream.getvalue())
    assert "ValueError: first\nsecond" in line["exc_info"]


@given(text=st.text(st.characters(codec=None), max_size=60))
def test_any_text_is_one_line_in_file_and_stream(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Lone surrogates come from file names and from what children print; they must not stop an operation."""
    path, stream = tmp_path_factory.mktemp("logs") / "agent.jsonl", io.StringIO()
    configure(stream, path)
    logs.emit(log, logging.INFO, "text.logged", text, excerpt=text, other={"deep": [text]})
    logging.getLogger().handlers[1].close()
    content = path.read_bytes()
    assert content.count(b"\n") == 1
    line = json.loads(content)
    assert line["event"] == "text.logged"
    if text.isprintable():
        assert line["excerpt"] == text == line["other"]["deep"][0]


def test_a_value_that_is_no_json_never_raises(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    path = tmp_path / "agent.jsonl"
    configure(io.StringIO(), path)
    logs.emit(log, logging.INFO, "odd.logged", "odd", path=path, values={1, 2}, odd=Odd(), raw=b"\xff")
    logs.emit(log, logging.INFO, "even.logged", "even")
    assert [line["event"] for line in lines(path.read_text())][-1] == "even.logged"


def test_a_writer_follows_a_rotation_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "agent.jsonl"
    configure(io.StringIO(), path)
    log.info("before")
    path.rename(logs.numbered(path, 1))
    log.info("after")
    assert [line["message"] for line in lines(logs.numbered(path, 1).read_text())] == ["before"]
    assert [line["message"] for line in lines(path.read_text())] == ["after"]


def test_rotation_keeps_the_newest_files_and_drops_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "agent.jsonl"
    for number in range(5):
        path.write_text(f"{number}" * 10)
        assert logs.rotate(path, max_size_bytes=10, kept=3)
        assert path.read_text() == ""
    assert [logs.numbered(path, number).read_text()[0] for number in (1, 2, 3)] == ["4", "3", "2"]
    assert not logs.numbered(path, 4).exists()


def test_a_file_that_is_not_full_or_not_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "agent.jsonl"
    assert not logs.rotate(path, max_size_bytes=10)
    path.write_text("123456789")
    assert not logs.rotate(path, max_size_bytes=10)
    assert path.read_text() == "123456789"


def test_no_line_is_lost_or_cut_while_another_rotates(tmp_path: Path) -> None:
    path = tmp_path / "agent.jsonl"
    configure(io.StringIO(), path)
    written: list[str] = []
    enough = threading.Event()

    def write(number: int) -> None:
        count = 0
        while not enough.is_set():
            log.info("%s-%s", number, count)
            written.append(f"{number}-{count}")
            count += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    rotations, ends_at = 0, time.monotonic() + 20
    while rotations < 10 and time.monotonic() < ends_at:
        rotations += logs.rotate(path, max_size_bytes=1_000, kept=20)
    enough.set()
    for writer in writers:
        writer.join()
    files = [path, *(logs.numbered(path, number) for number in range(1, rotations + 1))]
    messages = [line["message"] for file in files for line in lines(file.read_text())]
    assert rotations == 10
    assert sorted(messages) == sorted(written)


def test_a_full_disk_costs_lines_but_never_raises_and_garbles_no_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """/dev/full answers every write as a full disk does."""
    path = tmp_path / "agent.jsonl"
    path.symlink_to("/dev/full")
    configure(io.StringIO(), path)
    log.info("lost")
    path.unlink()
    log.info("kept")
    assert [line["message"] for line in lines(path.read_text())] == ["kept"]
    assert "No space left" in capsys.readouterr().err


def test_a_line_that_a_full_disk_cut_does_not_swallow_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files cuts a write off, as the end of a disk does."""
    path = tmp_path / "agent.jsonl"
    configure(io.StringIO(), path)
    log.info("whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        log.info("cut")
        log.info("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.info("whole again")
    whole, cut, again = path.read_text().splitlines()
    assert len(cut) == 10
    assert [json.loads(line)["message"] for line in (whole, again)] == ["whole", "whole again"]
    assert "File too large" in capsys.readouterr().err


def test_a_closed_file_closes_nobody_elses_descriptor(tmp_path: Path) -> None:
    """The number of a closed descriptor is given out again at once."""
    handler = logs.LineFile(tmp_path / "agent.jsonl")
    handler.close()
    with (tmp_path / "other").open("wb") as other:
        handler.close()
        other.write(b"still open")


def test_configuring_again_closes_the_former_file(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a listing, not paths
    for _ in range(3):
        configure(io.StringIO(), tmp_path / "agent.jsonl")
    assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208


def test_a_file_that_can_not_be_opened_is_told_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        configure(io.StringIO(), tmp_path / "missing/agent.jsonl")
