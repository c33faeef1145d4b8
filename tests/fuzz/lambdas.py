"""Events, environments and AWS's answers, through the handler as its zip holds it, with stubs for the two clients."""

import contextlib
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import yaml
from botocore import exceptions as aws
from hypothesis import strategies as st

from lambdas import build
from tests.fuzz import odd
from tests.fuzz.command import strictly_decoded
from tests.fuzz.target import Check, Target

EVENT = {
    "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
    "source": "aws.events", "account": "123456789012", "time": "2026-01-31T12:00:00Z", "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/backup"], "detail": {},
}  # fmt: skip
ENVIRONMENT = {
    "CLUSTER": "prod", "AUTO_SCALING_GROUPS": "control-plane-a,control-plane-b", "SSM_DOCUMENT": "EtcdAgent",
    "SSM_DOCUMENT_VERSION": "3",
    "_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
}  # fmt: skip
GROUPS = {
    "AutoScalingGroups": [
        {"AutoScalingGroupName": "control-plane-a", "Instances": [
            {"InstanceId": "i-0123456789abcdef0", "LifecycleState": "InService"},
            {"InstanceId": "i-0123456789abcdef1", "LifecycleState": "Terminating:Wait"}]},
        {"AutoScalingGroupName": "control-plane-b", "Instances": []},
    ]
}  # fmt: skip
INFORMATION = {"InstanceInformationList": [{"InstanceId": "i-0123456789abcdef0", "PingStatus": "Online"}]}
SENT = {"Command": {"CommandId": "5ec0de00-0000-4000-8000-000000000001", "Status": "Pending"}}
REFUSAL = {
    "Error": {"Code": "AccessDenied", "Message": "no"},
    "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "x"},
}
FIELDS = ("timestamp", "level", "logger", "message", "event", "service", "version", "trace_id", "span_id", "operation")


@dataclass(frozen=True)
class Invoked:
    """What one invocation meets: event, environment, and what each call of AWS answers or raises, in turn."""

    event: Any
    environment: Mapping[str, str]
    request_id: Any
    answers: Mapping[str, Sequence[Any]]


# The SDK itself takes no other shape of an error.
refusals = st.builds(
    aws.ClientError,
    odd.changed(REFUSAL, 1).filter(
        lambda answer: all(isinstance(answer.get(part, {}), dict) for part in ("Error", "ResponseMetadata"))
    ),
    st.just("X"),
)  # fmt: skip
losses = st.sampled_from(
    [
        aws.EndpointConnectionError(endpoint_url="https://ssm"), aws.ReadTimeoutError(endpoint_url="https://ssm"),
        aws.NoCredentialsError(), aws.NoRegionError(), aws.ParamValidationError(report="Invalid length"),
        aws.ResponseStreamingError(error="cut"), aws.ConnectionClosedError(endpoint_url="https://ssm"),
    ]
)  # fmt: skip


def answers(document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """An answer, most often the good one."""
    return st.one_of(
        st.just(document), st.just(document), st.just(document), odd.changed(document, 2), refusals, losses,
        st.just(document | {"NextToken": "more"}),
    )  # fmt: skip


@st.composite
def invocations(draw: st.DrawFn) -> Invoked:
    """Mostly one thing is wrong, so that the others are reached."""
    wrong = draw(st.integers(0, 9))
    event = draw(st.one_of(odd.changed(EVENT), odd.odd_values)) if wrong in (0, 1, 2) else EVENT
    environment = dict(ENVIRONMENT)
    if wrong in (2, 3):
        name = draw(st.sampled_from(sorted(environment)))
        environment[name] = odd.as_os_text(draw(odd.texts_near(environment[name])))
    call_answers = {
        "describe_auto_scaling_groups": draw(st.lists(answers(GROUPS), min_size=1, max_size=3)),
        "describe_instance_information": draw(st.lists(answers(INFORMATION), min_size=1, max_size=2)),
        "send_command": [draw(answers(SENT))],
    }
    request_id = draw(st.one_of(st.just("5ec0de00-0000-4000-8000-000000000002"), odd.odd_values))
    return Invoked(event, environment, request_id, call_answers)


class Client:
    """Answers each call with what was drawn for it, the last one for ever, as far as `most` calls."""

    def __init__(self, answers: Mapping[str, Sequence[Any]]) -> None:
        self._left = {name: list(drawn) for name, drawn in answers.items()}
        self.sent: list[Mapping[str, Any]] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls += 1
            assert self.calls < 1000, f"{name} is called for ever"
            left = self._left[name]
            answer = left.pop(0) if len(left) > 1 else left[0]
            if name == "send_command":
                self.sent.append(arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def modules_of_the_zip(folder: Path) -> Mapping[str, ModuleType]:
    """The handler's modules, loaded out of the built zip; those of this project stay what they are."""
    target = folder / "lambdas.zip"
    build.build(target)
    own = {
        name: module for name, module in sys.modules.items() if re.match(r"(agent|lambdas|pythonjsonlogger)\b", name)
    }
    for name in own:
        del sys.modules[name]
    sys.path.insert(0, str(target))
    try:
        loaded = {name: importlib.import_module(name) for name in ("agent.trace", "lambdas.dispatch", "lambdas.backup")}
    finally:
        sys.path.remove(str(target))
        for name in [name for name in sys.modules if re.match(r"(agent|lambdas|pythonjsonlogger)\b", name)]:
            del sys.modules[name]
        sys.modules.update(own)
    assert str(target) in str(loaded["lambdas.backup"].__file__)
    return loaded


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    loaded = modules_of_the_zip(folder)
    dispatch, handler = loaded["lambdas.dispatch"], loaded["lambdas.backup"].handler
    document = yaml.safe_load((build.PROJECT / "lambdas/document.yaml").read_text())["parameters"]

    def check(case: Invoked) -> None:
        client, stream = Client(case.answers), io.BytesIO()
        stderr = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)
        with (
            mock.patch.object(dispatch, "client", lambda service: client),
            mock.patch.dict(os.environ, case.environment, clear=True),
            mock.patch.object(sys, "stderr", stderr),
        ):
            failed = False
            try:
                ids = handler(case.event, SimpleNamespace(aws_request_id=case.request_id))
            except dispatch.DispatchFailed as error:
                failed = True
                assert re.search(r"\(trace=[0-9a-f]{32}\)\Z", str(error)), str(error)
            else:
                json.dumps(ids)
        for arguments in client.sent:
            _require_allowed(arguments, document)
        assert failed or len(client.sent) == 1
        _require_told(stream.getvalue(), failed)

    yield check


def _require_allowed(arguments: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """What SSM would take: known parameters, one text each, of the document's patterns."""
    assert len(arguments["InstanceIds"]) == 1
    assert len(arguments["Comment"]) <= 100
    for name, values in arguments["Parameters"].items():
        (value,) = values
        if "allowedPattern" in document[name]:
            assert re.fullmatch(document[name]["allowedPattern"].strip("^$"), value, re.ASCII), (name, value)
        else:
            assert value in document[name]["allowedValues"], (name, value)
    required = {name for name, parameter in document.items() if "default" not in parameter}
    assert required <= arguments["Parameters"].keys()


def _require_told(output: bytes, failed: bool) -> None:
    """Each line is one JSON object with the contract's fields and one valid trace; one line says how it ended."""
    lines = [strictly_decoded(line) for line in output.split(b"\n") if line]
    assert output.endswith(b"\n")
    for line in lines:
        assert all(line.get(name) not in (None, "") for name in FIELDS), line
    assert len({line["trace_id"] for line in lines}) == 1
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", lines[0]["trace_id"], re.ASCII)
    assert [line["event"] for line in lines if line["event"] in ("lambda.finished", "lambda.failed")] == [
        "lambda.failed" if failed else "lambda.finished"
    ]


TARGETS = (Target("lambdas", "events, environments and AWS's answers", 12, invocations(), opened),)
