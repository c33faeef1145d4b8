"""Trace ids as callers hand them over, and log files as `etcd-agent trace` may be given them."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from agent import trace
from agent.cli.asking import inherited_trace
from agent.errors import EXIT_FAILED, EXIT_OK
from tests.fuzz import command, odd
from tests.fuzz.target import Check, Target

TRACE_ID = "697d9d40" + "1a" * 12
SPAN_ID = "1234567890abcdef"
FORMS = (
    TRACE_ID, TRACE_ID.upper(), SPAN_ID, f"{TRACE_ID[:8]}-1a1a-1a1a-1a1a-1a1a1a1a1a1a",
    f"1-{TRACE_ID[:8]}-{TRACE_ID[8:]}", f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]};Parent={SPAN_ID};Sampled=1",
    f"00-{TRACE_ID}-{SPAN_ID}-01", "0" * 32, "",
)  # fmt: skip
VALID_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")

handed_over = st.tuples(odd.texts_near(*FORMS).map(odd.as_os_text), odd.texts_near(*FORMS).map(odd.as_os_text))


@contextlib.contextmanager
def opened_ids(folder: Path) -> Iterator[Check]:
    def check(case: tuple[str, str]) -> None:
        found = inherited_trace({"TRACE_ID": case[0], "TRACEPARENT": case[1]})
        assert VALID_ID.fullmatch(found.trace_id), found
        assert re.fullmatch("|[0-9a-f]{16}", found.parent_span_id), found
        for text in case:
            told = trace.printable_excerpt(text)
            assert len(told) <= 64
            assert told.isprintable()
            read = trace.parse_inherited(text)
            if read is not None:
                assert VALID_ID.fullmatch(read.trace_id), read
                assert trace.parse_inherited(read.trace_id) == trace.Inherited(read.trace_id)
        with trace.bound(trace_id=found.trace_id, op_id="snapshot-1111"), trace.span():
            parent = trace.parse_inherited(trace.child_environment()["TRACEPARENT"])
            assert parent is not None
            assert parent.trace_id == found.trace_id

    yield check


COMMAND_ID = "5ec0de00-0000-4000-8000-000000000001"
LINE = {
    "timestamp": "2026-01-31T12:00:00.123456Z", "level": "INFO", "logger": "agent.worker", "message": "took it",
    "event": "operation.finished", "service": "etcd-agent", "version": "1.0", "trace_id": TRACE_ID,
    "span_id": "00000000000000a1", "parent_span_id": "00000000000000a0", "op_id": "snapshot-1111",
    "operation": "snapshot", "step": "", "node": "node-1", "status": "succeeded", "duration_ms": 1234, "attempt": 1,
}  # fmt: skip
LINES = (
    LINE,
    LINE | {"service": "etcd-agent-lambda-backup", "event": "command.sent", "ssm_command_id": COMMAND_ID,
            "span_id": "00000000000000a0", "parent_span_id": "", "instance_id": "i-0123456789abcdef0"},
    LINE | {"event": "request.submitted", "ssm_command_id": COMMAND_ID, "span_id": "00000000000000a2"},
    LINE | {"event": "step.started", "step": "save", "span_id": "00000000000000a3",
            "parent_span_id": "00000000000000a1"},
    LINE | {"event": "operation.failed", "level": "ERROR", "error_code": "etcd_unavailable", "error_hint": "look",
            "error_message": "no answer", "exc_info": "Traceback (most recent call last):\nValueError: x"},
    {"level": "WARNING", "logger": "botocore", "message": "slow", "trace_id": TRACE_ID},
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Log files, what follows `trace` on the command line, and what comes in by standard input."""

    files: Sequence[bytes]
    trace_id: str
    as_json: bool
    from_stdin: bool
    columns: str


@st.composite
def log_files(draw: st.DrawFn) -> Files:
    """Some lines of a trace in one or two files, changed, doubled, out of order, with what is no JSON between them."""
    files = []
    for _ in range(draw(st.integers(1, 2))):
        lines = [draw(odd.documents(draw(st.sampled_from(LINES)), 2)) for _ in range(draw(st.integers(0, 5)))]
        if draw(st.integers(0, 5)) == 0:
            lines.append(draw(st.one_of(odd.noise, st.just(f"x{TRACE_ID}".encode()), st.just(TRACE_ID.encode()))))
        prefix = draw(st.sampled_from([b"", b"", b"Jan 31 12:00:00 node etcd-agent[1]: "]))
        files.append(draw(odd.hurt(b"".join(prefix + line + b"\n" for line in lines))))
    trace_id = draw(st.one_of(st.just(TRACE_ID), st.just(TRACE_ID), odd.texts_near(*FORMS).map(odd.as_os_text)))
    columns = draw(st.sampled_from(["180", "80", "1", "0", "-5", "x", "99999"]))
    return Files(files, trace_id, draw(st.booleans()), draw(st.integers(0, 5)) == 0, columns)


@contextlib.contextmanager
def opened_files(folder: Path) -> Iterator[Check]:
    environment: Mapping[str, str] = {"ETCD_AGENT_ROOT": str(folder)}

    def check(case: Files) -> None:
        names = []
        for number, content in enumerate(case.files):
            path = folder / f"{number}.jsonl"
            path.write_bytes(content)
            names.append(str(path))
        words = ["trace", *(["--json"] if case.as_json else []), "--", case.trace_id]
        words += ["-"] if case.from_stdin else names
        told = command.run(words, {**environment, "COLUMNS": case.columns}, case.files[0])
        command.require_in_order(told, words)
        if case.trace_id == TRACE_ID:
            assert told.code in (EXIT_OK, EXIT_FAILED), told
        if told.code == EXIT_OK and case.as_json:
            document = json.loads(told.out)
            assert VALID_ID.fullmatch(document["trace_id"])

    yield check


TARGETS = (
    Target("trace ids", "TRACE_ID and TRACEPARENT", 12, handed_over, opened_ids),
    Target("trace files", "log files, for `etcd-agent trace`", 5, log_files(), opened_files),
)
