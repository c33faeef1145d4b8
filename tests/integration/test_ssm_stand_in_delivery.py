"""What the SSM stand-in does with a command on its way: late, twice, never, cancelled, timed out, and how it ends."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.integration.ssm_place import (
    FIRST,
    NAME,
    SECOND,
    SPAN,
    TRACE,
    UNKNOWN,
    Place,
    client_of,
    is_alive,
    pids_in,
    running,
    wait_for,
)  # fmt: skip
from tests.sandbox.ssm_delivery import Delivery

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running(tmp_path) as here:
        yield here


@pytest.mark.parametrize("how", ["cancel", "time-out"])
def test_cancel_and_time_out_kill_the_whole_group_without_a_warning(place: Place, how: str) -> None:
    file = place.folder / "pids"
    program = f"trap 'echo warned' TERM; sh -c 'echo $$ >>{file}; sleep 600' & echo $$ >>{file}; wait"
    command_id = place.send(program)
    pids = pids_in(file, 2)
    assert place.told(command_id)["Status"] == "InProgress"
    if how == "cancel":
        place.client.cancel_command(CommandId=command_id)
    else:
        place.clock.advance(101)
    told = place.until(command_id)
    ended = ("Cancelled", "Cancelled") if how == "cancel" else ("TimedOut", "ExecutionTimedOut")
    assert (told["Status"], told["StatusDetails"], told["ResponseCode"]) == (*ended, 137)
    assert told["StandardOutputContent"] == ""
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "the group to be gone")


def test_a_command_that_asks_for_a_reboot_runs_again_once_the_machine_is_back(place: Place) -> None:
    mark = place.folder / "booted"
    command_id = place.send(f"test -e {mark} && exit 0; touch {mark}; exit 194")
    machine = place.ssm.machines[FIRST]
    wait_for(lambda: machine.reboots == [command_id], "the reboot")
    assert (place.told(command_id)["Status"], machine.ping_status) == ("InProgress", "ConnectionLost")
    machine.ping_status = "Online"
    assert place.until(command_id)["Status"] == "Success"


def test_a_duplicate_delivery_runs_the_script_twice(place: Place) -> None:
    place.ssm.machines[FIRST].delivery = Delivery(copies=2)
    told = place.ran(f"echo $SSM_COMMAND_ID >>{place.folder / 'runs'}")
    assert (place.folder / "runs").read_text().split() == [told["CommandId"]] * 2


def test_a_late_command_is_delayed_and_runs_in_the_end(place: Place) -> None:
    place.ssm.machines[FIRST].delivery = Delivery(late_s=40)
    command_id = place.send("echo late", TimeoutSeconds=60)
    place.until(command_id, "Delayed")
    place.clock.advance(40)
    assert place.until(command_id)["StandardOutputContent"] == "late\n"


@pytest.mark.parametrize("delivery", [Delivery(never=True), Delivery(late_s=61)])
def test_a_command_that_is_not_there_in_time_never_runs_and_times_out_late(place: Place, delivery: Delivery) -> None:
    place.ssm.machines[FIRST].delivery = delivery
    mark = place.folder / "ran"
    command_id = place.send(f"touch {mark}", TimeoutSeconds=60)
    place.until(command_id, "Delayed")
    place.clock.advance(159)
    told = place.until(command_id)
    assert (told["Status"], told["StatusDetails"], told["ResponseCode"]) == ("TimedOut", "DeliveryTimedOut", -1)
    assert not mark.exists()
    command = place.client.list_commands(CommandId=command_id)["Commands"][0]
    assert (command["Status"], command["DeliveryTimedOutCount"], command["ErrorCount"]) == ("TimedOut", 1, 0)
    # Not at the delivery time-out of 60 s but once the script's own 100 s would be over, too.
    assert (command["ExpiresAfter"] - command["RequestedDateTime"]).total_seconds() == 160


def test_a_machine_that_lost_its_connection_gets_the_command_when_it_is_back(place: Place) -> None:
    place.ssm.machines[FIRST].ping_status = "ConnectionLost"
    command_id = place.send()
    place.until(command_id, "Delayed")
    place.ssm.machines[FIRST].ping_status = "Online"
    assert place.until(command_id)["Status"] == "Success"


def test_a_cancel_reaches_only_the_machines_it_names_and_those_not_reached_yet(place: Place) -> None:
    place.ssm.machines[SECOND].delivery = Delivery(never=True)
    command_id = place.send("sleep 600", FIRST, SECOND)
    place.until(command_id, "InProgress")
    place.client.cancel_command(CommandId=command_id, InstanceIds=[SECOND])
    assert place.until(command_id, instance_id=SECOND)["Status"] == "Cancelled"
    assert place.told(command_id)["Status"] == "InProgress"
    assert place.client.list_commands(CommandId=command_id)["Commands"][0]["Status"] == "InProgress"
    place.client.cancel_command(CommandId=command_id)
    assert place.until(command_id)["ResponseCode"] == 137
    place.client.cancel_command(CommandId=command_id)
    assert place.told(command_id)["Status"] == "Cancelled"
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        place.client.cancel_command(CommandId=command_id, InstanceIds=[UNKNOWN])
    with pytest.raises(ClientError, match="InvalidCommandId"):
        place.client.cancel_command(CommandId="0" * 36)


def test_commands_and_invocations_are_listed_newest_first_and_in_pages(place: Place) -> None:
    sent = [place.send("true", FIRST), place.send("exit 1", FIRST, SECOND), place.send("true", SECOND)]
    for command_id, instance_id in ((sent[0], FIRST), (sent[1], FIRST), (sent[1], SECOND), (sent[2], SECOND)):
        place.until(command_id, instance_id=instance_id)
    pages = list(place.client.get_paginator("list_commands").paginate(PaginationConfig={"PageSize": 2}))
    assert [[command["CommandId"] for command in page["Commands"]] for page in pages] == [sent[:0:-1], sent[:1]]
    assert [command["Status"] for page in pages for command in page["Commands"]] == ["Success", "Failed", "Success"]
    rows = place.client.list_command_invocations(InstanceId=SECOND, Details=True)["CommandInvocations"]
    assert [(row["CommandId"], row["CommandPlugins"][0]["ResponseCode"]) for row in rows] == [
        (sent[2], 0),
        (sent[1], 1),
    ]
    assert len(place.client.list_command_invocations(CommandId=sent[1])["CommandInvocations"]) == 2


def test_throttling_and_failures_can_be_asked_for(place: Place) -> None:
    place.server.throttle_next("SendCommand")
    place.server.fail_next("ListCommands")
    arguments = {"DocumentName": NAME, "InstanceIds": [FIRST], "Parameters": {"traceId": [TRACE]}}
    client_of(place.server, attempts=2).send_command(**arguments)
    with pytest.raises(ClientError) as raised:
        place.client.list_commands()
    assert raised.value.response["Error"]["Code"] == "InternalServerError"
    assert len(place.client.list_commands()["Commands"]) == 1
    assert [call.error_code for call in place.server.calls] == ["ThrottlingException", "", "InternalServerError", ""]


def test_each_run_is_logged_under_its_trace(place: Place) -> None:
    command_id = place.send("exit 3", Parameters={"parentSpanId": [SPAN]})
    place.until(command_id)
    started, finished = place.log_lines()
    for line in (started, finished):
        assert (line["trace_id"], line["ssm_command_id"]) == (TRACE, command_id)
        assert "span_id" not in line
        assert (line["service"], line["instance_id"], line["level"]) == ("ssm-stand-in", FIRST, "INFO")
    assert (started["event"], finished["event"]) == ("ssm.command.started", "ssm.command.finished")
    assert started["timestamp"] <= finished["timestamp"]
    assert (finished["status"], finished["exit_code"]) == ("Failed", 3)
    assert 0 <= finished["duration_ms"] < 20000


def test_nothing_is_left_when_the_server_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    before = set(threading.enumerate())
    with running(tmp_path) as place:
        place.ran(f"sleep 600 & echo $! >>{file}")
        place.send(f"echo $$ >>{file}; sleep 600", SECOND)
        pids = pids_in(file, 2)
        assert all(is_alive(pid) for pid in pids)
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "all processes to be gone")
    assert set(threading.enumerate()) <= before
