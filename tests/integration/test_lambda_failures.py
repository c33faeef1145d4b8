"""The backup handler out of the built zip when something is wrong: it raises, says why, and sends nothing twice."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import trace
from lambdas.build import build
from tests.integration.lambda_process import Ran, Stub, run, schedule_event, serving

pytestmark = pytest.mark.integration

NODES = ("i-0a000000000000001", "i-0a000000000000002")
TRACE_IN_TEXT = re.compile(r".*\(trace=([0-9a-f]{32})\)", re.DOTALL)
HOSTILE = "\x1b[31m\n${x}" + "A" * 10_000
# What a field of the event becomes, and what the message says of it.
MALFORMED = {
    "no source": ({"source": None}, "source is missing"),
    "another source": ({"source": "aws.autoscaling"}, "source is 'aws.autoscaling', not aws.events"),
    "another kind": ({"detail-type": "EC2 Instance Launch Successful"}, "not Scheduled Event"),
    "no id": ({"id": None}, "id is missing"),
    "a number for an id": ({"id": 7}, "id is of type int, not a UUID"),
    "a list for an id": ({"id": ["x"]}, "id is of type list"),
    "an id with a line feed": ({"id": "7bf73129-1428-4cd3-a780-000000000000\n"}, "not a UUID"),
    "a hostile id": ({"id": HOSTILE}, f"id is {('[31m${x}' + 'A' * 56)!r}, not a UUID"),
    "a time in words": ({"time": "yesterday"}, "time is 'yesterday'"),
    "a local time": ({"time": "2026-01-31T12:00:00"}, "not a time such as"),
    "a day that is none": ({"time": "2026-02-30T12:00:00Z"}, "time is 2026-02-30T12:00:00Z, which does not exist"),
    "a time before 1970": ({"time": "1969-12-31T23:59:59Z"}, "not a time such as"),
    "other digits": ({"time": "٢026-01-31T12:00:00Z"}, "not a time such as"),
}


@pytest.fixture(scope="module")
def zip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lambdas") / "lambdas.zip"
    build(path)
    return path


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(Stub({"prod-control-plane": dict.fromkeys(NODES, ("InService", "Online"))})) as stub:
        yield stub


def failure(ran: Ran, number: int = 0) -> dict[str, object]:
    """The line that tells the failure; what was raised has the same trace and message."""
    lines, end = ran.lines(number), ran.ends[number]
    assert [line["event"] for line in lines].count("lambda.failed") == 1
    failed = lines[-1]
    assert (failed["event"], failed["level"]) == ("lambda.failed", "ERROR")
    assert failed["duration_ms"] >= 0
    assert len({line["trace_id"] for line in lines}) == 1
    raised = TRACE_IN_TEXT.fullmatch(end["text"])
    assert raised
    assert raised[1] == failed["trace_id"]
    assert end["text"].startswith(failed["error_message"])
    found: dict[str, object] = failed
    return found


@pytest.mark.parametrize("changes, told", MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_event_raises_and_nothing_is_called(
    zip_path: Path, stub: Stub, changes: dict[str, object], told: str
) -> None:
    ran = run(zip_path, stub.url, schedule_event(0, changes))
    assert ran.ends[0]["raised"] == "BadEvent"
    assert failure(ran)["error_code"] == "bad_input"
    assert told in ran.ends[0]["text"]
    assert stub.calls == []
    assert HOSTILE[:5] not in ran.ends[0]["text"]
    assert len(ran.stderr) < 4000


@pytest.mark.parametrize("event", [None, [], "Scheduled Event", 7, {}], ids=repr)
def test_what_is_no_event_at_all_raises(zip_path: Path, stub: Stub, event: object) -> None:
    ran = run(zip_path, stub.url, event)
    assert ran.ends[0]["raised"] == "BadEvent"
    told = failure(ran)
    assert told["error_hint"]
    assert trace.parse_inherited(str(told["trace_id"]))  # a fresh one, and valid
    assert stub.calls == []


def test_all_problems_of_an_event_are_told_at_once(zip_path: Path, stub: Stub) -> None:
    (end,) = run(zip_path, stub.url, {"source": "me", "id": "x"}).ends
    assert all(
        name in end["text"] for name in ("source is 'me'", "id is 'x'", "detail-type is missing", "time is miss")
    )


def test_all_problems_of_the_environment_are_told_at_once(zip_path: Path, stub: Stub) -> None:
    ran = run(
        zip_path, stub.url, schedule_event(), CLUSTER="Prod\n", AUTO_SCALING_GROUPS="a,,b", SSM_DOCUMENT="",
        SSM_DOCUMENT_VERSION="$LATEST",
    )  # fmt: skip
    told = failure(ran)
    assert told["error_code"] == "config_invalid"
    assert ran.ends[0]["raised"] == "BadSettings"
    for text in (
        "CLUSTER is 'Prod'", "AUTO_SCALING_GROUPS is 'a,,b'", "SSM_DOCUMENT is missing",
        "SSM_DOCUMENT_VERSION is '$LATEST', not a version number",
    ):  # fmt: skip
        assert text in ran.ends[0]["text"]
    assert stub.calls == []


def test_no_eligible_node_raises_and_says_of_each_why(zip_path: Path, stub: Stub) -> None:
    stub.groups["prod-control-plane"] = {
        "i-0a000000000000001": ("InService", "ConnectionLost"),
        "i-0a000000000000002": ("InService", None),
        "i-0a000000000000003": ("Terminating:Wait", "Online"),
    }
    ran = run(zip_path, stub.url, schedule_event())
    assert ran.ends[0]["raised"] == "NoEligibleNode"
    assert failure(ran)["error_message"] == (
        "no node of prod-control-plane can be asked: i-0a000000000000001: its SSM ping is ConnectionLost; "
        "i-0a000000000000002: it is not registered with SSM; "
        "i-0a000000000000003: its lifecycle state is Terminating:Wait"
    )
    assert stub.sent() == []


@pytest.mark.parametrize("group", [{}, {"i-0a000000000000001": ("Terminating", "Online")}], ids=["empty", "ending"])
def test_nobody_in_service_raises_without_asking_ssm(
    zip_path: Path, stub: Stub, group: dict[str, tuple[str, str | None]]
) -> None:
    stub.groups["prod-control-plane"] = group
    ran = run(zip_path, stub.url, schedule_event())
    assert failure(ran)["error_code"] == "no_eligible_node"
    assert stub.actions() == ["DescribeAutoScalingGroups"]


@pytest.mark.parametrize("action", ["DescribeAutoScalingGroups", "DescribeInstanceInformation", "SendCommand"])
def test_throttling_to_the_end_raises(zip_path: Path, stub: Stub, action: str) -> None:
    code = "Throttling" if action == "DescribeAutoScalingGroups" else "ThrottlingException"
    stub.refusals[action] = [(400, code)] * 9
    ran = run(zip_path, stub.url, schedule_event())
    told = failure(ran)
    assert (ran.ends[0]["raised"], told["error_code"]) == ("AwsUnavailable", "aws_unavailable")
    assert str(told["error_message"]).startswith(action)
    assert code in str(told["error_message"])
    assert stub.actions().count(action) == 3


@pytest.mark.parametrize("action", ["DescribeAutoScalingGroups", "DescribeInstanceInformation", "SendCommand"])
def test_a_denied_call_raises_at_once(zip_path: Path, stub: Stub, action: str) -> None:
    stub.refusals[action] = [(400, "AccessDeniedException")]
    ran = run(zip_path, stub.url, schedule_event())
    assert (ran.ends[0]["raised"], failure(ran)["error_code"]) == ("AwsRefused", "aws_refused")
    assert stub.actions().count(action) == 1


@pytest.mark.parametrize("fault", ["answer lost", "server error"])
def test_a_command_that_the_sdk_repeats_is_the_same_one(zip_path: Path, stub: Stub, fault: str) -> None:
    if fault == "answer lost":
        stub.drops["SendCommand"] = 1
    else:
        stub.refusals["SendCommand"] = [(500, "InternalServerError")]
    ran = run(zip_path, stub.url, schedule_event())
    first, second = stub.sent()
    assert json.dumps(first) == json.dumps(second)
    assert first["Parameters"]["opId"] == [ran.answers[0]["op_id"]]


def test_an_answer_of_another_shape_is_told_under_the_trace(zip_path: Path, stub: Stub) -> None:
    stub.refusals["SendCommand"] = [(200, "no command in here")]
    ran = run(zip_path, stub.url, schedule_event(1), schedule_event(1))
    failed = ran.lines(0)[-1]
    assert ran.ends[0]["raised"] == "AwsUnavailable"
    assert (failed["event"], failed["error_code"]) == ("lambda.failed", "aws_unavailable")
    assert failed["error_message"].endswith("an answer that can not be read: KeyError: 'Command'")
    assert failed["trace_id"] == ran.ends[1]["answer"]["trace_id"]


def test_an_id_of_no_instance_is_asked_for_nothing(zip_path: Path, stub: Stub) -> None:
    stub.groups = {"prod-control-plane": {"i-1; reboot": ("InService", "Online")}}
    ran = run(zip_path, stub.url, schedule_event())
    assert "'i-1; reboot' is no instance id" in ran.ends[0]["text"]
    assert stub.actions() == ["DescribeAutoScalingGroups"]


def test_nobody_answers(zip_path: Path) -> None:
    with serving(Stub({})) as stub:
        closed = stub.url
    ran = run(zip_path, closed, schedule_event())
    assert failure(ran)["error_code"] == "aws_unavailable"


def test_a_failure_leaves_nothing_for_the_next_event(zip_path: Path, stub: Stub) -> None:
    stub.refusals["SendCommand"] = [(400, "InvalidInstanceId")]
    ran = run(zip_path, stub.url, schedule_event(1), schedule_event(1))
    assert failure(ran)["trace_id"] == ran.ends[1]["answer"]["trace_id"]
    assert "InvalidInstanceId" in ran.ends[0]["text"]
    assert stub.sent()[0]["InstanceIds"] == stub.sent()[1]["InstanceIds"]
