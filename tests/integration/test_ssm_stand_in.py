"""The SSM stand-in, spoken to by the real SDK: what it takes and refuses, and what scripts get and give."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.ssm_place import DOCUMENT, FIRST, NAME, SECOND, TRACE, UNKNOWN, Place, running
from tests.sandbox.ssm_delivery import Machine
from tests.sandbox.ssm_document import AgentKind

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running(tmp_path) as here:
        yield here


def test_machines_are_told_by_filter_and_in_pages(place: Place) -> None:
    for number in range(3, 16):
        place.ssm.machines[f"i-{number:017x}"] = Machine(f"i-{number:017x}")
    place.ssm.machines[FIRST].ping_status = "ConnectionLost"
    place.ssm.machines[SECOND].state = "terminated"
    pages = list(place.client.get_paginator("describe_instance_information").paginate())
    assert [len(page["InstanceInformationList"]) for page in pages] == [10, 4]
    found = place.client.describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": [FIRST, SECOND, UNKNOWN]}]
    )["InstanceInformationList"]
    assert [(one["InstanceId"], one["PingStatus"]) for one in found] == [(FIRST, "ConnectionLost")]
    with pytest.raises(ClientError, match="does not filter by IamRole"):
        place.client.describe_instance_information(Filters=[{"Key": "IamRole", "Values": ["x"]}])


def test_a_command_runs_with_what_the_agent_gives_and_nothing_else(place: Place) -> None:
    command_id = place.send("env | sort; cut -d ' ' -f 5 /proc/$$/stat; cat; echo told >&2")
    told = place.until(command_id)
    assert (told["Status"], told["StatusDetails"], told["ResponseCode"]) == ("Success", "Success", 0)
    *environment, group = told["StandardOutputContent"].splitlines()
    assert int(group) != os.getpgrp()
    names = [line.partition("=")[0] for line in environment]
    assert sorted({*names} - {"PWD", "OLDPWD", "SHLVL", "_"}) == [
        "AWS_SSM_INSTANCE_ID", "AWS_SSM_PLATFORM_NAME", "AWS_SSM_PLATFORM_VERSION", "AWS_SSM_REGION_NAME", "PATH",
        "SSM_COMMAND_ID", "SSM_parentSpanId", "SSM_program", "TRACE_ID", "WHO",
    ]  # fmt: skip
    assert {f"SSM_COMMAND_ID={command_id}", f"TRACE_ID={TRACE}", "WHO=first"} <= {*environment}
    assert told["StandardErrorContent"] == "told\n"
    assert told["ExecutionStartDateTime"]


def test_all_kinds_of_agents_give_the_same_result(place: Place) -> None:
    outputs = set()
    for kind in AgentKind:
        place.ssm.machines[FIRST].agent = kind
        outputs.add(place.ran("printenv TRACE_ID")["StandardOutputContent"])
    assert outputs == {f"{TRACE}\n"}


def test_an_invocation_is_not_there_right_after_its_command(place: Place) -> None:
    sent = place.client.send_command(DocumentName=NAME, InstanceIds=[FIRST], Parameters={"traceId": [TRACE]})
    with pytest.raises(ClientError) as raised:
        place.told(sent["Command"]["CommandId"])
    assert raised.value.response["Error"]["Code"] == "InvocationDoesNotExist"
    place.clock.advance(1)
    assert place.until(sent["Command"]["CommandId"])["Status"] == "Success"


@pytest.mark.parametrize("changed, code", [
    ({"DocumentName": "Nobody"}, "InvalidDocument"),
    ({"DocumentVersion": "2"}, "InvalidDocumentVersion"),
    ({"DocumentHash": "0" * 64}, "InvalidDocument"),
    ({"InstanceIds": [UNKNOWN]}, "InvalidInstanceId"),
    ({"InstanceIds": [FIRST, FIRST]}, "DuplicateInstanceId"),
    ({"InstanceIds": []}, "InvalidParameters"),
    ({"InstanceIds": [f"i-{n:017x}" for n in range(51)]}, "ValidationException"),
    ({"InstanceIds": ["first"]}, "ValidationException"),
    ({"Comment": "x" * 101}, "ValidationException"),
    ({"TimeoutSeconds": 29}, "ValidationException"),
    ({"TimeoutSeconds": 2592001}, "ValidationException"),
    ({"Parameters": {"traceId": [TRACE + "\n"]}}, "InvalidParameters"),
    ({"Parameters": {"nobody": ["x"]}}, "InvalidParameters"),
    ({"Parameters": {"program": ["#" * 65536]}}, "MaxDocumentSizeExceeded"),
])  # fmt: skip
def test_what_ssm_would_refuse_is_refused_and_leaves_nothing(place: Place, changed: Any, code: str) -> None:
    with pytest.raises(ClientError) as raised:
        place.client.send_command(**{
            "DocumentName": NAME, "InstanceIds": [FIRST], **changed,
            "Parameters": {"traceId": [TRACE]} | changed.get("Parameters", {}),
        })  # fmt: skip
    assert raised.value.response["Error"]["Code"] == code
    assert place.client.list_commands()["Commands"] == []
    assert place.server.calls[0].error_code == code


@pytest.mark.parametrize("state, is_taken", [("stopped", True), ("shutting-down", False), ("terminated", False)])
def test_a_stopped_machine_is_sent_to_and_a_terminated_one_not(place: Place, state: str, is_taken: bool) -> None:
    place.ssm.machines[FIRST].state = state
    if is_taken:
        place.until(place.send(), "Delayed")
        return
    with pytest.raises(ClientError, match="not in a valid state"):
        place.send()


def test_versions_are_kept_and_the_default_stays_the_first(place: Place) -> None:
    changed = DOCUMENT.replace("eval", "echo second; eval")
    made = place.client.update_document(Name=NAME, Content=changed, DocumentFormat="YAML", DocumentVersion="$LATEST")
    assert made["DocumentDescription"]["DocumentVersion"] == "2"
    runs = {version: place.send(DocumentVersion=version) for version in ("1", "2", "$LATEST", "$DEFAULT")}
    outputs = {version: place.until(command)["StandardOutputContent"] for version, command in runs.items()}
    assert outputs == {"1": "", "2": "second\n", "$LATEST": "second\n", "$DEFAULT": ""}
    with pytest.raises(ClientError, match="DuplicateDocumentContent"):
        place.client.update_document(Name=NAME, Content=changed, DocumentFormat="YAML")
    with pytest.raises(ClientError, match="DocumentAlreadyExists"):
        place.client.create_document(Name=NAME, Content=DOCUMENT, DocumentFormat="YAML")
    with pytest.raises(ClientError, match="InvalidDocumentContent"):
        place.client.create_document(Name="AsJson", Content=DOCUMENT)


@pytest.mark.parametrize("program, status, code", [
    ("exit 3", "Failed", 3), ("kill -TERM $$", "Failed", 143), ("nobody-has-this", "Failed", 127),
])  # fmt: skip
def test_a_script_that_fails_is_told_with_its_code(place: Place, program: str, status: str, code: int) -> None:
    told = place.ran(program)
    assert (told["Status"], told["StatusDetails"], told["ResponseCode"]) == (status, "Failed", code)


def test_output_is_cut_as_ssm_cuts_it(place: Place) -> None:
    told = place.ran("head -c 30000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero | tr '\\0' y >&2")
    assert told["StandardOutputContent"] == "x" * 24000
    assert told["StandardErrorContent"] == "y" * 8000
    rows = place.client.list_command_invocations(CommandId=told["CommandId"], Details=True)["CommandInvocations"]
    assert rows[0]["CommandPlugins"][0]["Output"] == "x" * 2500


@pytest.mark.parametrize("operation, body, code", [
    ("SendCommand", b"{", "SerializationException"),
    ("SendCommand", b"[]", "SerializationException"),
    ("SendCommand", b'{"DocumentName": 7}', "SerializationException"),
    ("SendCommand", b'{"DocumentName": "A", "Parameters": {"traceId": "x"}}', "SerializationException"),
    ("SendCommand", b"{}", "ValidationException"),
    ("ListCommands", b'{"NextToken": "x"}', "InvalidNextToken"),
    ("DeleteDocument", b'{"Name": "EtcdAgent"}', "UnknownOperationException"),
    ("Nothing", b"{}", "UnknownOperationException"),
])  # fmt: skip
def test_what_is_no_proper_call_gets_an_answer(place: Place, operation: str, body: bytes, code: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - http, by the server
        place.server.endpoint_url, body, {"X-Amz-Target": f"AmazonSSM.{operation}"}
    )
    with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(request):  # noqa: S310 - as above
        pass
    with raised.value as answer:
        assert (answer.code, json.loads(answer.read())["__type"]) == (400, code)
