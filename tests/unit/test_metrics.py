"""Metrics are log lines in the embedded metric format, with two sets of dimensions and the trace as a property."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent import logs, metrics, outcome, trace
from agent.domain.request import ErrorResult, Result, Status, StepResult

TRACE_ID = "4" * 32


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    made = io.StringIO()
    fields = {"cluster": "prod", "instance_id": "i-1", "node": "node-1"}
    logs.configure(service="etcd-agent", version="1", stream=made, fields=fields)
    with trace.bound(trace_id=TRACE_ID, op_id="snapshot-0123456789abcdef"):
        yield made


def metric(stream: io.StringIO) -> dict[str, Any]:
    """The one metric line, which has all that its directive names."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if "_aws" in line]
    assert "emf" not in line
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "EtcdAgent"
    assert directive["Dimensions"] == [["cluster"], ["cluster", "node"]]
    assert all(isinstance(line[name], str) for names in directive["Dimensions"] for name in names)
    assert all(isinstance(line[one["Name"]], int | float) for one in directive["Metrics"])
    assert {one["Unit"] for one in directive["Metrics"]} <= {"Seconds", "Milliseconds", "Count"}
    assert line["_aws"]["Timestamp"] > 1_600_000_000_000
    assert line["trace_id"] == TRACE_ID
    return dict(line)


def test_a_look_tells_age_and_missed_slots(stream: io.StringIO) -> None:
    metrics.schedule_looked(50000.12345, 2)
    line = metric(stream)
    assert (line["SnapshotAgeSeconds"], line["MissedSlots"]) == (50000.123, 2)


def test_without_a_snapshot_there_is_no_age(stream: io.StringIO) -> None:
    metrics.schedule_looked(None, 0)
    line = metric(stream)
    assert "SnapshotAgeSeconds" not in line
    assert [one["Name"] for one in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]] == ["MissedSlots"]


def ended(status: Status, output: dict[str, Any], operation: str = "snapshot") -> Result:
    error = None if status == "succeeded" else ErrorResult("failed", "no")
    steps = (StepResult("save", status, 120), StepResult("store", status, 30))
    return Result(
        "snapshot-0123456789abcdef", 1, TRACE_ID, operation, status, 1, "", "", steps=steps, output=output, error=error
    )


@pytest.mark.parametrize(
    "status, output, counts",
    [
        ("succeeded", {"stored": True}, (1, 0, 0)),
        ("succeeded", {"stored": False}, (1, 0, 1)),
        ("failed", {}, (0, 1, 0)),
        ("refused", {}, (0, 1, 0)),
    ],
)
def test_each_end_of_a_snapshot_is_counted(
    stream: io.StringIO, status: Status, output: dict[str, Any], counts: tuple[int, int, int]
) -> None:
    outcome.log_result(ended(status, output))
    line = metric(stream)
    assert (line["SnapshotSucceeded"], line["SnapshotFailed"], line["StoredFalse"]) == counts
    assert line["DurationMs"] == 150


def test_what_was_not_due_or_cancelled_or_is_no_snapshot_is_not_counted(stream: io.StringIO) -> None:
    outcome.log_result(ended("succeeded", {"due": False}))
    outcome.log_result(ended("failed", {}), cancel_trace_id="5" * 32)
    outcome.log_result(ended("succeeded", {}, "outbox"))
    assert "_aws" not in stream.getvalue()
