"""Log lines of any message, fields and context: each is one line, one valid JSON object, with the contract's fields."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent import logs, trace
from agent.logs import emit
from tests.fuzz import odd
from tests.fuzz.command import strictly_decoded
from tests.fuzz.target import Check, Target

FIELDS = ("timestamp", "level", "logger", "message", "event", "service", "version", "trace_id", "span_id", "op_id")
NAMES = ("error_code", "error_message", "error_hint", "instance_id", "skipped", "attempt", "duration_ms", "x y", "é")
log = logging.getLogger("agent.fuzz")

values = st.one_of(
    odd.odd_texts, odd.odd_texts, st.integers(), st.sampled_from([2**64, 10**310]), st.booleans(), st.none(),
    st.lists(odd.odd_texts, max_size=2), st.dictionaries(odd.odd_texts, odd.odd_texts, max_size=2),
    st.binary(max_size=9), st.builds(ValueError, odd.odd_texts), st.builds(Path, st.sampled_from(["/x", "\udcff"])),
)  # fmt: skip


@dataclass(frozen=True)
class Logged:
    """One call, and the context around it."""

    message: str
    level: int
    fields: Mapping[str, Any]
    context: Mapping[str, str]
    process_fields: Mapping[str, str]
    raised: str | None


logged = st.builds(
    Logged, odd.odd_texts, st.sampled_from([10, 20, 30, 40, 50]),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    st.fixed_dictionaries({"trace_id": st.just("1" * 32), "op_id": odd.odd_texts.map(lambda text: text or "-"),
                           "span_id": st.just("2" * 16), "step": odd.odd_texts}),
    st.fixed_dictionaries({"cluster": odd.odd_texts, "node": odd.odd_texts}),
    st.one_of(st.none(), st.none(), odd.odd_texts),
)  # fmt: skip


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    path = folder / "agent.jsonl"

    def check(case: Logged) -> None:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
        logs.configure(
            service="etcd-agent", version="1.0", level="DEBUG", stream=stream, file=path, fields=case.process_fields
        )
        try:
            with trace.bound(**case.context):
                if case.raised is None:
                    emit(log, case.level, "fuzz.line", case.message, **case.fields)
                else:
                    _raise_and_log(case)
            _require_one_line(path.read_bytes(), case)
            _require_one_line(raw.getvalue(), case)
        finally:
            for handler in list(logging.getLogger().handlers):
                logging.getLogger().removeHandler(handler)
                handler.close()
            path.unlink(missing_ok=True)

    yield check


def _raise_and_log(case: Logged) -> None:
    try:
        raise ValueError(case.raised)
    except ValueError:
        log.exception(case.message, extra={"event": "fuzz.line", **case.fields})


def _require_one_line(content: bytes, case: Logged) -> None:
    assert content.count(b"\n") == 1, "not one line"
    assert content.endswith(b"\n")
    fields = strictly_decoded(content)
    assert all(fields.get(name) not in (None, "") for name in FIELDS if name != "message"), fields
    assert fields["trace_id"] == "1" * 32
    assert fields["event"] == "fuzz.line"
    assert isinstance(fields["message"], str)
    assert set(case.fields) <= fields.keys()


TARGETS = (Target("log lines", "messages, fields and context of log lines", 6, logged, opened),)
