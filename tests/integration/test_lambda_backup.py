"""The backup handler out of the built zip: which calls it makes, with what, and what its log says."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import __version__, trace
from lambdas.build import build
from tests.integration.lambda_process import COMMAND_ID, X_RAY_ROOT, Ran, Stub, run, schedule_event, serving

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).resolve().parents[2] / "lambdas/document.yaml"
NODES = ("i-0a000000000000001", "i-0a000000000000002", "i-0a000000000000003")
STRAIGHT = ["DescribeAutoScalingGroups", "DescribeInstanceInformation", "SendCommand"]


@pytest.fixture(scope="module")
def zip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lambdas") / "lambdas.zip"
    build(path)
    return path


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(Stub({"prod-control-plane": dict.fromkeys(NODES, ("InService", "Online"))})) as stub:
        yield stub


@pytest.fixture
def straight(zip_path: Path, stub: Stub) -> Ran:
    return run(zip_path, stub.url, schedule_event())


def test_only_the_zip_is_seen_and_its_import_does_nothing(zip_path: Path, straight: Ran) -> None:
    assert straight.agent.startswith(str(zip_path))
    assert straight.loaded_at_import == []


def test_the_straight_path_is_three_calls_and_returns_the_ids(stub: Stub, straight: Ran) -> None:
    event_id = str(schedule_event()["id"])
    (answer,) = straight.answers
    assert stub.actions() == STRAIGHT
    assert answer["trace_id"] == trace.trace_id_from_event(event_id, "2026-01-31T12:00:00Z")
    assert answer["op_id"] == "snapshot-" + hashlib.sha256(event_id.encode()).hexdigest()[:16]
    assert answer["command_id"] == COMMAND_ID
    assert answer["instance_id"] == max(
        NODES, key=lambda node: hashlib.sha256(f"{answer['op_id']}|{node}".encode()).hexdigest()
    )


def test_the_command_carries_the_trace_and_the_pinned_document(stub: Stub, straight: Ran) -> None:
    (answer,), (sent,) = straight.answers, stub.sent()
    assert sent["InstanceIds"] == [answer["instance_id"]]
    assert (sent["DocumentName"], sent["DocumentVersion"]) == ("EtcdAgent-prod", "7")
    assert sent["Comment"] == f"etcd-agent snapshot trace={answer['trace_id']}"
    assert len(sent["Comment"]) <= 100
    assert sent["TimeoutSeconds"] == 60
    (span_id,) = {line["span_id"] for line in straight.lines()}
    assert sent["Parameters"] == {
        "traceId": [answer["trace_id"]],
        "parentSpanId": [span_id],
        "operation": ["snapshot"],
        "opId": [answer["op_id"]],
        "requestedAt": ["2026-01-31T12:00:00Z"],
    }


def test_the_document_takes_what_is_sent(stub: Stub, straight: Ran) -> None:
    declared: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())["parameters"]
    (sent,) = stub.sent()
    assert sent["Parameters"].keys() <= declared.keys()
    assert {name for name, rules in declared.items() if "default" not in rules} <= sent["Parameters"].keys()
    for name, (value,) in sent["Parameters"].items():
        rules = declared[name]
        assert (
            value in rules["allowedValues"] if "allowedValues" in rules else re.search(rules["allowedPattern"], value)
        )


def test_every_call_names_the_trace_in_its_user_agent(stub: Stub, straight: Ran) -> None:
    ends = {call.user_agent.partition(" etcd-agent/")[2] for call in stub.calls}
    assert ends == {f"{__version__} trace/{straight.answers[0]['trace_id']}"}
    assert all("Boto3/" in call.user_agent for call in stub.calls)


def test_every_line_has_the_trace_and_the_fields_of_the_agent(straight: Ran) -> None:
    (answer,), lines = straight.answers, straight.lines()
    assert [line["event"] for line in lines] == ["lambda.started", "node.chosen", "command.sent", "lambda.finished"]
    for line in lines:
        expected = {
            "trace_id": answer["trace_id"], "op_id": answer["op_id"], "operation": "snapshot", "cluster": "prod",
            "service": "etcd-agent-lambda-backup", "version": __version__, "level": "INFO",
            "lambda_request_id": "request-0", "xray_trace_id": X_RAY_ROOT,
        }  # fmt: skip
        assert {name: line.get(name) for name in expected} == expected
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert str(schedule_event()["id"]) in lines[0]["message"]
    assert lines[1]["instance_id"] == lines[2]["instance_id"] == answer["instance_id"]
    assert (sorted(lines[1]["eligible"]), lines[1]["skipped"]) == (sorted(NODES), {})
    assert lines[2]["ssm_command_id"] == answer["command_id"]
    assert lines[3]["duration_ms"] >= 0


def test_a_warm_process_keeps_its_clients_but_not_the_trace(zip_path: Path, stub: Stub) -> None:
    ran = run(zip_path, stub.url, schedule_event(1), schedule_event(2, {"source": "nobody"}), schedule_event(3))
    first, _, third = ran.ends
    assert stub.actions() == STRAIGHT * 2
    for number, end, calls in ((0, first, stub.calls[:3]), (2, third, stub.calls[3:])):
        trace_id = end["answer"]["trace_id"]
        assert {line["trace_id"] for line in ran.lines(number)} == {trace_id}
        assert {call.user_agent.rpartition("trace/")[2] for call in calls} == {trace_id}
    assert len({line["trace_id"] for line in ran.lines()}) == 3
    assert len({line["span_id"] for line in ran.lines()}) == 3


def test_duplicates_meet_on_one_node_and_other_events_spread(zip_path: Path, stub: Stub) -> None:
    events = [schedule_event(number) for number in range(20)]
    cold, warm = run(zip_path, stub.url, events[0]), run(zip_path, stub.url, *events, *reversed(events))
    assert warm.answers[:20] == list(reversed(warm.answers[20:]))
    assert warm.answers[0] == cold.answers[0]
    assert {answer["instance_id"] for answer in warm.answers} == set(NODES)
    assert len({answer["op_id"] for answer in warm.answers}) == 20


def test_only_instances_in_service_and_online_are_asked(zip_path: Path, stub: Stub) -> None:
    states = ["Pending", "Terminating:Wait", "Terminating:Retained", "Standby", "Detaching", "Warmed:Running"]
    group = stub.groups["prod-control-plane"]
    group |= {f"i-0b00000000000000{number}": (state, "Online") for number, state in enumerate(states)}
    group |= {NODES[0]: ("InService", "ConnectionLost"), NODES[1]: ("InService", None)}
    ran = run(zip_path, stub.url, *[schedule_event(number) for number in range(10)])
    assert {answer["instance_id"] for answer in ran.answers} == {NODES[2]}
    asked = {tuple(call.parameters["Filters"][0]["Values"]) for call in stub.calls if "Filters" in call.parameters}
    assert asked == {NODES}
    chosen = ran.lines()[1]
    assert chosen["eligible"] == [NODES[2]]
    assert chosen["skipped"][NODES[0]] == "its SSM ping is ConnectionLost"
    assert chosen["skipped"][NODES[1]] == "it is not registered with SSM"
    assert chosen["skipped"]["i-0b000000000000001"] == "its lifecycle state is Terminating:Wait"


def test_all_groups_and_all_pages_are_read(zip_path: Path, stub: Stub) -> None:
    stub.page_size = 1
    stub.groups = {f"group {number}": {node: ("InService", "Online")} for number, node in enumerate(NODES)}
    events = [schedule_event(number) for number in range(10)]
    ran = run(zip_path, stub.url, *events, AUTO_SCALING_GROUPS="group 0, group 1,group 2")
    assert {answer["instance_id"] for answer in ran.answers} == set(NODES)
    assert stub.actions()[:7] == [STRAIGHT[0]] * 3 + [STRAIGHT[1]] * 3 + [STRAIGHT[2]]


def test_more_instances_than_a_filter_takes_are_asked_in_parts(zip_path: Path, stub: Stub) -> None:
    stub.groups["prod-control-plane"] = {f"i-{number:017x}": ("InService", "Online") for number in range(120)}
    ran = run(zip_path, stub.url, schedule_event())
    assert ran.answers[0]["instance_id"] in stub.groups["prod-control-plane"]
    parts = [call.parameters["Filters"][0]["Values"] for call in stub.calls if "Filters" in call.parameters]
    assert {instance_id for part in parts for instance_id in part} == set(stub.groups["prod-control-plane"])


def test_a_group_that_is_gone_is_told_and_the_others_are_asked(zip_path: Path, stub: Stub) -> None:
    ran = run(zip_path, stub.url, schedule_event(), AUTO_SCALING_GROUPS="prod-control-plane,gone")
    assert ran.answers[0]["instance_id"] in NODES
    (warning,) = [line for line in ran.lines() if line["event"] == "group.missing"]
    assert (warning["level"], warning["group"], warning["trace_id"]) == (
        "WARNING", "gone", ran.answers[0]["trace_id"],
    )  # fmt: skip
