"""Requests: whatever bytes come, the answer is a valid record or `BadInput`, and nothing else."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import request as requests
from agent.domain.request import Acceptance, ErrorResult, Record, Request, Result, StepResult
from agent.errors import BadInput

TRACE_ID = "0123456789abcdef0123456789abcdef"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


def fields(**changes: Any) -> dict[str, Any]:
    given_fields = {"op_id": "snapshot-1", "operation": "snapshot", "trace_id": TRACE_ID}
    return given_fields | {"requested_at": "2026-01-31T12:00:00Z"} | changes


def document(**changes: Any) -> dict[str, Any]:
    return {"request": fields(**changes), "schema": 1}


def result(generation: int = 1) -> Result:
    return Result(
        op_id="snapshot-1", generation=generation, trace_id=TRACE_ID, operation="snapshot", status="failed", attempt=2,
        started_at="2026-01-31T12:00:00Z", finished_at="2026-01-31T12:00:09Z",
        steps=(StepResult("preflight", "succeeded", 12), StepResult("save", "failed", 9)),
        output={"revision": 2**53 + 1}, error=ErrorResult("etcd_unavailable", "no leader", "wait", retryable=True),
    )  # fmt: skip


def test_a_record_survives_its_file() -> None:
    acceptance = Acceptance("2026-01-31T12:00:00Z", "boot", 12.5, 1800)
    record = Record(requests.make(**fields()), 2, 1, acceptance, (result(1), result(2)))
    assert requests.decode(requests.encode(record)) == record


def test_the_result_of_a_record_is_that_of_its_own_generation() -> None:
    request = requests.make(**fields())
    assert Record(request).result is None
    assert Record(request, 2, results=(result(1),)).result is None
    assert Record(request, 2, results=(result(1), result(2))).result == result(2)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_bad_input(content: bytes) -> None:
    with pytest.raises(BadInput):
        requests.decode(content)


@given(name=st.sampled_from([*Request.__struct_fields__, "unknown"]), value=JSON_VALUES)
def test_any_value_in_any_field_is_a_record_or_bad_input(name: str, value: Any) -> None:
    content = json.dumps({"request": fields() | {name: value}}).encode("utf-8", "surrogatepass")
    try:
        record = requests.decode(content)
    except BadInput:
        return
    assert requests.decode(requests.encode(record)) == record


@given(name=st.sampled_from([*Record.__struct_fields__, "unknown"]), value=JSON_VALUES)
def test_any_value_beside_the_request_is_a_record_or_bad_input(name: str, value: Any) -> None:
    content = json.dumps(document() | {name: value}).encode("utf-8", "surrogatepass")
    try:
        record = requests.decode(content)
    except BadInput:
        return
    assert requests.decode(requests.encode(record)) == record


@given(cut=st.integers(min_value=0, max_value=400), garbled=st.binary(min_size=1, max_size=3))
def test_a_cut_or_garbled_file_is_a_record_or_bad_input(cut: int, garbled: bytes) -> None:
    whole = requests.encode(Record(requests.make(**fields()), results=(result(),)))
    for content in (whole[:cut], whole[:cut] + garbled + whole[cut + len(garbled) :]):
        try:
            requests.decode(content)
        except BadInput:
            continue


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"request":' * 10_000,
        b'{"generation":' + b"9" * 60_000 + b"}",
        b'{"generation":1e999}',
        b'{"attempt":-1}',
        json.dumps(document() | {"generation": 0}).encode(),
        json.dumps(document() | {"schema": 2}).encode(),
        json.dumps(document() | {"results": [{"output": 9}]}).encode(),
        json.dumps(document()).replace("snapshot-1", "snapshot-\\ud800").encode(),
        json.dumps(document()).encode("utf-16"),
    ],
)
def test_hostile_files_are_bad_input(content: bytes) -> None:
    with pytest.raises(BadInput):
        requests.decode(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"op_id": "snapshot-1\n"},
        {"op_id": "x" * 7},
        {"op_id": "x" * 65},
        {"op_id": "../snapshot"},
        {"trace_id": "0" * 32},
        {"trace_id": TRACE_ID.upper()},
        {"trace_id": TRACE_ID + "\n"},
        {"span_id": "12"},
        {"requested_at": "2026-01-31T12:00:00"},
        {"requested_at": "2026-02-30T12:00:00Z"},
        {"requested_at": "0000-01-01T00:00:00Z"},
        {"requested_at": "0999-01-01T00:00:00Z"},
        {"requested_at": "1969-12-31T23:59:59Z"},
        {"requested_at": "2026-01-31T12:00:00Z\n"},
        {"requested_at": "٢٠٢٦-01-31T12:00:00Z"},
        {"source": "root"},
        {"ssm_command_id": "$(reboot)"},
        {"params": {"emergency": "yes"}},
        {"params": {"emergency": "true|false"}},
        {"params": {"emergency": True}},
        {"params": {"emergency": "x" * 2000}},
        {"params": {"": "true"}},
        {"params": {"id": "latest"}},
        {"operation": "verify"},
        {"operation": "verify", "params": {"id": "latest\n"}},
        {"operation": "verify", "params": {"id": "20260131T120000Z-0123456g"}},
        {"operation": "x" * 65},
        {"unknown": 1},
    ],
)
def test_what_is_not_of_the_schema_is_bad_input_by_file_and_by_command(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        requests.decode(json.dumps(document(**changes)).encode())
    with pytest.raises(BadInput):
        requests.make(**fields(**changes))


@pytest.mark.parametrize("depth", [10, 40, *range(900, 1000, 5)])
def test_a_file_is_only_read_if_it_can_be_written_again_from_any_depth_of_calls(depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    whole = requests.encode(Record(requests.make(**fields()), 1, results=(result(),)))
    content = whole.replace(b'"output":{"revision":9007199254740993}', f'"output":{{"a":{nested}}}'.encode())
    assert content != whole
    if depth > 10:
        with pytest.raises(BadInput, match=r"deep|recursion"):
            requests.decode(content)
    else:
        read = requests.decode(content)
        assert requests.decode(requests.encode(read)) == read


@pytest.mark.parametrize("identifier", ["latest", "all", "20260131T120000Z-01234567"])
def test_verify_takes_an_id_or_a_word(identifier: str) -> None:
    assert requests.make(**fields(operation="verify", params={"id": identifier})).params == {"id": identifier}


def test_the_same_work_is_the_same_operation_and_parameters_whoever_asks() -> None:
    first = requests.make(**fields())
    assert first.same_work_as(requests.make(**fields(trace_id="1" * 32, source="ssm", ssm_command_id="ab-1")))
    assert not first.same_work_as(requests.make(**fields(params={"emergency": "true"})))
    assert not first.same_work_as(requests.make(**fields(operation="verify", params={"id": "all"})))


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_moments_survive_their_text(moment: datetime) -> None:
    assert requests.parse_moment(requests.format_moment(moment)) == moment.replace(microsecond=0)


def test_one_operation_runs_per_slot_and_restore_alone() -> None:
    assert requests.slot_is_free("backup", {"membership"})
    assert not requests.slot_is_free("backup", {"backup"})
    assert not requests.slot_is_free("membership", {"restore"})
    assert not requests.slot_is_free("restore", {"backup"})
    assert requests.slot_is_free("restore", set())
