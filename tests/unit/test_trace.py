"""Trace ids: one per event, accepted in the forms of other systems, never inherited from garbage."""

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import trace

EVENT_ID = "12345678-1234-1234-1234-123456789012"


def test_an_event_has_one_trace_id_that_starts_with_its_time() -> None:
    first = trace.trace_id_from_event(EVENT_ID, "2026-01-31T12:00:00Z")
    assert first == trace.trace_id_from_event(EVENT_ID, "2026-01-31T12:00:00Z")
    assert int(first[:8], 16) == 1769860800
    assert re.fullmatch(r"[0-9a-f]{32}", first)


def test_a_retire_key_depends_on_the_instance_alone() -> None:
    assert trace.op_id_for_retire("i-0a") == trace.op_id_for_retire("i-0a") != trace.op_id_for_retire("i-0b")


@pytest.mark.parametrize(
    "text, trace_id",
    [
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("0123456789ABCDEF", "00000000000000000123456789abcdef"),
        ("01234567-89ab-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("1-01234567-89abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("Root=1-01234567-89abcdef0123456789abcdef;Sampled=1", "0123456789abcdef0123456789abcdef"),
    ],
)
def test_forms_of_other_systems_are_accepted(text: str, trace_id: str) -> None:
    assert trace.parse_inherited(text) == trace.Inherited(trace_id)


def test_a_traceparent_brings_its_span() -> None:
    text = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
    assert trace.parse_inherited(text) == trace.Inherited("0123456789abcdef0123456789abcdef", "00f067aa0ba902b7")


@pytest.mark.parametrize("text", ["", "0" * 32, "0" * 16, "xyz", "0123456789abcdef0123456789abcdef0", "$(reboot)"])
def test_anything_else_is_rejected(text: str) -> None:
    assert trace.parse_inherited(text) is None


@given(st.text())
def test_parsing_never_raises_and_yields_only_valid_ids(text: str) -> None:
    inherited = trace.parse_inherited(text)
    assert inherited is None or re.fullmatch(r"(?!0{32})[0-9a-f]{32}", inherited.trace_id)
    assert len(trace.printable_excerpt(text)) <= 64


def test_a_span_hangs_under_the_one_around_it() -> None:
    with trace.bound(trace_id="1" * 32), trace.span() as outer, trace.span(step="save") as inner:
        assert trace.current() == {"trace_id": "1" * 32, "span_id": inner, "parent_span_id": outer, "step": "save"}
        assert trace.child_environment()["TRACEPARENT"] == f"00-{'1' * 32}-{inner}-01"
    assert trace.current() == {}


def test_a_thread_does_not_inherit_the_context() -> None:
    seen: list[str] = []
    with trace.bound(trace_id="1" * 32):
        thread = threading.Thread(target=lambda: seen.append(trace.current_trace_id()))
        thread.start()
        thread.join()
    assert seen == [""]
