"""Log lines as a tree: the right parents, durations and failures, and nothing of a trace left out, whatever comes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain import timeline
from agent.domain.span import Failure, Span
from agent.domain.timeline import build, walk

TRACE_ID = "65b9e4c0aaaaaaaaaaaaaaaaaaaaaaaa"
COMMAND = "11111111-2222-4333-8444-555555555555"
LAMBDA = {"service": "etcd-agent-lambda-backup", "span_id": "aaaaaaaaaaaaaaaa"}
NODE = {"service": "etcd-agent", "node": "node-1", "operation": "snapshot", "ssm_command_id": COMMAND}
SUBMIT = NODE | {"span_id": "bbbbbbbbbbbbbbbb", "parent_span_id": "aaaaaaaaaaaaaaaa"}
DAEMON = NODE | {"parent_span_id": "bbbbbbbbbbbbbbbb"}
WORKER = NODE | {"span_id": "cccccccccccccccc", "parent_span_id": "bbbbbbbbbbbbbbbb"}
STEP = NODE | {"span_id": "dddddddddddddddd", "parent_span_id": "cccccccccccccccc", "step": "save"}


def line(ms: int, event: str, *parts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(milliseconds=ms)
    made: dict[str, Any] = {"timestamp": moment.isoformat(), "trace_id": TRACE_ID, "event": event, "level": "INFO"}
    for part in parts:
        made |= part
    return made | {"message": f"{event} happened"} | fields


def whole_story() -> list[dict[str, Any]]:
    return [
        line(0, "lambda.started", LAMBDA),
        line(90, "command.sent", LAMBDA, ssm_command_id=COMMAND, instance_id="i-1"),
        line(100, "lambda.finished", LAMBDA, duration_ms=100),
        line(400, "request.submitted", SUBMIT),
        line(410, "request.accepted", DAEMON),
        line(500, "operation.started", WORKER, attempt=1),
        line(510, "step.started", STEP),
        line(1510, "step.finished", STEP, duration_ms=999, status="succeeded"),
        line(1520, "operation.finished", WORKER, duration_ms=1005, status="succeeded", attempt=1),
    ]


def spans_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, Span]:
    return {span.name: span for root in build(TRACE_ID, lines).roots for span in walk(root)}


def shape(lines: Sequence[Mapping[str, Any]]) -> list[Any]:
    def of(span: Span) -> Any:
        return [f"{span.kind} {span.name}", *map(of, span.children)]

    return [of(root) for root in build(TRACE_ID, lines).roots]


STORY_SHAPE = [
    ["function etcd-agent-lambda-backup",
     [f"command {COMMAND}", ["submit snapshot", ["operation snapshot", ["step save"]]]]]
]  # fmt: skip


def test_the_whole_story_hangs_under_the_function_that_began_it() -> None:
    assert shape(whole_story()) == STORY_SHAPE


@given(st.permutations(whole_story()))
def test_the_order_of_the_lines_does_not_matter(lines: Sequence[Mapping[str, Any]]) -> None:
    assert shape(lines) == STORY_SHAPE


def test_lines_of_other_traces_are_no_part_of_it() -> None:
    other = [one | {"trace_id": "1" * 32} for one in whole_story()]
    assert build(TRACE_ID, other).roots == []
    assert build(TRACE_ID, [*other, *whole_story()]).line_count == len(whole_story())


def test_a_duration_is_what_the_last_line_says_else_first_to_last() -> None:
    spans = spans_of(whole_story())
    assert spans["save"].duration_ms == 999
    assert spans["etcd-agent-lambda-backup"].duration_ms == 100
    assert spans_of(whole_story()[:-1])["snapshot"].duration_ms == 0
    assert spans_of([line(0, "a.b", SUBMIT), line(70, "a.c", SUBMIT, duration_ms=5)])["snapshot"].duration_ms == 70


@pytest.mark.parametrize("value", [None, True, "9", -1, float("nan"), float("inf"), 1e300, [], {}])
def test_an_impossible_duration_is_none(value: object) -> None:
    lines = [line(0, "step.started", STEP), line(50, "step.finished", STEP, duration_ms=value)]
    assert spans_of(lines)["save"].duration_ms == 50


def test_a_command_takes_from_its_sending_to_the_end_of_what_it_ran() -> None:
    found = build(TRACE_ID, whole_story())
    command = next(span for root in found.roots for span in walk(root) if span.kind == "command")
    assert (command.start_us - found.start_us) / 1000 == 90
    assert command.duration_ms == 310


def test_a_command_of_which_no_node_wrote_a_line_is_there() -> None:
    assert shape(whole_story()[:3]) == [["function etcd-agent-lambda-backup", [f"command {COMMAND}"]]]


def test_without_the_functions_lines_the_command_is_the_root_and_its_parent_is_missed() -> None:
    found = build(TRACE_ID, whole_story()[3:])
    assert [root.kind for root in found.roots] == ["command"]
    assert found.orphans == {f"command {COMMAND}"}


def test_a_second_delivery_hangs_under_the_same_command() -> None:
    again = line(700, "request.joined", SUBMIT, span_id="eeeeeeeeeeeeeeee")
    function = shape([*whole_story(), again])[0]
    assert [child[0] for child in function[1][1:]] == ["submit snapshot", "submit snapshot"]


def test_attempts_stand_side_by_side_and_the_killed_one_is_unfinished() -> None:
    second = {"span_id": "eeeeeeeeeeeeeeee"}
    lines = [
        *whole_story()[:7],
        line(800, "worker.ended", DAEMON, level="WARNING", exit_code=-9),
        line(810, "operation.rerun", DAEMON, level="WARNING", attempt=2),
        line(900, "operation.started", WORKER, second, attempt=2),
        line(999, "operation.finished", WORKER, second, attempt=2, status="succeeded"),
    ]
    submit = next(
        span for root in build(TRACE_ID, lines).roots for span in walk(root) if span.kind == "submit"
    )  # fmt: skip
    assert [(child.first("attempt"), child.status) for child in submit.children] == [
        ("1", "unfinished"), ("2", "succeeded"),
    ]  # fmt: skip
    assert [one.text("event") for one in submit.events][-2:] == ["worker.ended", "operation.rerun"]


def test_a_failure_is_told_once_where_it_happened() -> None:
    error = {"level": "ERROR", "error_code": "no_space", "error_message": "full", "error_hint": "make room"}
    lines = [
        *whole_story()[:7],
        line(600, "step.failed", STEP, error, status="failed", duration_ms=90),
        line(610, "operation.failed", WORKER, error, status="failed", error_message="[rule] full", duration_ms=90),
    ]
    operation = next(
        span for root in build(TRACE_ID, lines).roots for span in walk(root) if span.kind == "operation"
    )  # fmt: skip
    assert operation.children[0].failures == [Failure("no_space", "full", "make room")]
    assert operation.failures == []
    assert (operation.status, operation.children[0].status) == ("failed", "failed")


def test_a_defect_is_told_by_the_last_line_of_its_traceback() -> None:
    crashed = line(5, "operation.crashed", WORKER, level="ERROR", exc_info="Traceback …\n  x\nKeyError: 'a'\n")
    assert spans_of([crashed])["snapshot"].failures == [Failure("", "KeyError: 'a'", "")]


def test_what_only_marks_begin_and_end_is_no_event() -> None:
    library = line(505, "log.message", WORKER, level="DEBUG")
    loud = line(506, "log.message", WORKER, level="WARNING")
    (operation,) = [span for span in spans_of([*whole_story(), library, loud]).values() if span.kind == "operation"]
    assert [one.text("level") for one in operation.events] == ["WARNING"]


def test_lines_without_a_span_or_a_parent_are_kept() -> None:
    lines = [
        line(0, "a.b", service="cron"),
        line(1, "a.c", NODE, parent_span_id="ffffffffffffffff"),
        line(2, "a.d", service="sandbox-ssm", ssm_command_id="c-2"),
    ]
    found = build(TRACE_ID, lines)
    assert sum(len(span.lines) for root in found.roots for span in walk(root)) == 3
    assert {span.name for span in found.roots} >= {"cron", "c-2"}


def test_a_line_without_a_time_stays_behind_the_one_before_it() -> None:
    lines = whole_story()
    lines.insert(4, line(0, "no.time", SUBMIT, timestamp="yesterday"))
    submit = next(span for root in build(TRACE_ID, lines).roots for span in walk(root) if span.kind == "submit")
    assert [one.text("event") for one in submit.lines] == ["request.submitted", "no.time", "request.accepted"]


def test_parents_in_a_circle_lose_nothing() -> None:
    lines = [
        line(0, "a.a", span_id="a", parent_span_id="b"),
        line(1, "a.b", span_id="b", parent_span_id="a"),
        line(2, "a.c", span_id="c", parent_span_id="a"),
        line(3, "a.d", span_id="d", parent_span_id="d"),
    ]
    found = build(TRACE_ID, lines)
    assert sorted(span.span_id for root in found.roots for span in walk(root)) == ["a", "b", "c", "d"]


def test_a_chain_deeper_than_any_real_one_loses_nothing() -> None:
    count = 50 * timeline.MOST_DEPTH
    lines = [line(number, "a.b", span_id=f"s{number}", parent_span_id=f"s{number - 1}") for number in range(count)]
    found = build(TRACE_ID, lines)
    assert sum(1 for root in found.roots for _ in walk(root)) == count


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
NAMES = st.sampled_from(
    ["timestamp", "span_id", "parent_span_id", "ssm_command_id", "service", "step", "event", "level", "message",
     "error_code", "exc_info", "duration_ms", "status", "attempt"]
)  # fmt: skip
IDS = st.sampled_from(["a", "b", "c", "command c-1", "service x", ""])
TIMES = st.sampled_from(
    ["2026-01-31T12:00:00Z", "2026-01-31T11:59:59.5+00:00", "2026-01-31T12:00:01", "9999-12-31T23:59:59.999999Z",
     "0001-01-01T00:00:00+14:00", "soon"]
)  # fmt: skip
GARBAGE = st.fixed_dictionaries(
    {"trace_id": st.just(TRACE_ID), "timestamp": TIMES, "span_id": IDS, "parent_span_id": IDS},
    optional={"ssm_command_id": st.sampled_from(["c-1", "c-2"]), "service": st.just("etcd-agent")},
)


def anything() -> st.SearchStrategy[list[dict[str, Any]]]:
    merged = st.builds(lambda known, odd: odd | known, GARBAGE, st.dictionaries(NAMES, VALUES, max_size=5))
    return st.lists(merged, max_size=8)


@settings(max_examples=300)
@given(anything())
def test_whatever_the_lines_hold_none_is_lost_and_everything_has_a_place_in_time(lines: list[dict[str, Any]]) -> None:
    found = build(TRACE_ID, lines)
    spans = list(every(found.roots))
    assert sum(len(span.lines) for span in spans) == len(lines)
    assert len({id(span) for span in spans}) == len(spans)
    for span in spans:
        assert found.start_us <= span.start_us <= span.end_us <= found.end_us
        assert span.duration_ms >= 0
        json.dumps([span.name, span.kind, span.status, span.first("attempt"), len(span.failures), len(span.events)])


def every(roots: Sequence[Span]) -> Iterator[Span]:
    for root in roots:
        yield from walk(root)


def test_what_the_daemon_says_of_a_part_later_has_its_own_moment_and_belongs_to_the_whole() -> None:
    lines = [*whole_story(), line(9000, "operation.failed", DAEMON, error_code="worker_crashed", error_message="gone")]
    found = build(TRACE_ID, lines)
    submit = next(span for span in every(found.roots) if span.kind == "submit")
    assert [(told.at_us - found.start_us) / 1000 for told in submit.failures] == [9000]
    assert (found.end_us - found.start_us) / 1000 == 9000
