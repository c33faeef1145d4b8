"""The Auto Scaling stand-in, spoken to by the real SDK: hooks, their timers, and how they end."""

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.sandbox.auto_scaling import AutoScaling, Group
from tests.sandbox.aws_server import AwsServer
from tests.sandbox.clock import Clock
from tests.sandbox.lifecycle import CONTINUE, LAUNCHING, Hook, Policy

pytestmark = pytest.mark.integration

GROUP, HOOK = "control-plane", "etcd-leaves"
FIRST, SECOND, THIRD = (f"i-{number:017x}" for number in (1, 2, 3))


@dataclass
class Place:
    """A group of three that runs, and a client of it."""

    auto_scaling: AutoScaling
    clock: Clock
    server: AwsServer
    client: Any

    def state(self, instance_id: str) -> str:
        """As the SDK tells it; "" when it is not listed."""
        found = self.client.describe_auto_scaling_instances(InstanceIds=[instance_id])["AutoScalingInstances"]
        return str(found[0]["LifecycleState"]) if found else ""

    def terminate(self, instance_id: str = FIRST, *, decrement: bool = False) -> Any:
        return self.client.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=decrement
        )

    def complete(self, result: str, instance_id: str = FIRST, hook: str = HOOK, **more: str) -> None:
        self.client.complete_lifecycle_action(
            AutoScalingGroupName=GROUP, LifecycleHookName=hook, LifecycleActionResult=result, InstanceId=instance_id,
            **more,
        )  # fmt: skip

    def heartbeat(self, instance_id: str = FIRST) -> None:
        self.client.record_lifecycle_action_heartbeat(
            AutoScalingGroupName=GROUP, LifecycleHookName=HOOK, InstanceId=instance_id
        )


def client_of(server: AwsServer, attempts: int = 1) -> Any:
    return boto3.client(
        "autoscaling", endpoint_url=server.endpoint_url, region_name="us-east-1", aws_access_key_id="key",
        aws_secret_access_key="secret", config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )  # fmt: skip


@contextlib.contextmanager
def place(policy: Policy) -> Iterator[Place]:
    # No time passes but what the test says.
    clock = Clock(factor=0)
    auto_scaling = AutoScaling([Group(GROUP, policy, minimum=2), Group("another")], clock=clock, page_size=2)
    for instance_id in (FIRST, SECOND, THIRD):
        auto_scaling.launch(GROUP, instance_id)
    with AwsServer(auto_scaling=auto_scaling) as server:
        yield Place(auto_scaling, clock, server, client_of(server))


@pytest.fixture
def plain() -> Iterator[Place]:
    with place(Policy()) as here:
        yield here


@pytest.fixture
def hooked() -> Iterator[Place]:
    with place(Policy((Hook(HOOK, heartbeat_timeout_s=300, default_result=CONTINUE),))) as here:
        yield here


@pytest.fixture
def retaining() -> Iterator[Place]:
    with place(Policy((Hook(HOOK, heartbeat_timeout_s=300),), retain_on_abandon=True)) as here:
        yield here


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


def test_groups_are_found_by_name_and_told_in_pages(plain: Place) -> None:
    pages = plain.client.get_paginator("describe_auto_scaling_instances").paginate()
    assert [len(page["AutoScalingInstances"]) for page in pages] == [2, 1]
    groups = plain.client.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP, "nobody"])["AutoScalingGroups"]
    assert [group["AutoScalingGroupName"] for group in groups] == [GROUP]
    assert {one["InstanceId"]: one["LifecycleState"] for one in groups[0]["Instances"]} == dict.fromkeys(
        (FIRST, SECOND, THIRD), "InService"
    )
    every = plain.client.describe_auto_scaling_groups(AutoScalingGroupNames=[])["AutoScalingGroups"]
    assert [group["AutoScalingGroupName"] for group in every] == ["another", GROUP]


def test_a_token_that_was_not_given_out_is_refused(plain: Place) -> None:
    with pytest.raises(ClientError) as raised:
        plain.client.describe_auto_scaling_groups(NextToken="page-two")
    assert code_of(raised)[0] == "InvalidNextToken"


def test_without_a_hook_an_instance_ends_by_itself(plain: Place) -> None:
    plain.terminate(decrement=True)
    assert plain.state(FIRST) == "Terminating"
    plain.clock.advance(31)
    assert plain.state(FIRST) == "Terminated"
    plain.clock.advance(61)
    assert plain.state(FIRST) == ""
    assert plain.auto_scaling.state(FIRST) == "Terminated"
    group = plain.client.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]
    assert group["DesiredCapacity"] == 2


def test_the_minimum_size_holds_and_an_unknown_instance_is_told(plain: Place) -> None:
    plain.terminate(FIRST, decrement=True)
    with pytest.raises(ClientError, match="desiredSize equals minSize"):
        plain.terminate(SECOND, decrement=True)
    assert plain.state(SECOND) == "InService"
    with pytest.raises(ClientError, match="No managed instance found") as raised:
        plain.terminate("i-0000000000000dead")
    assert code_of(raised)[0] == "ValidationError"


def test_a_hook_holds_the_instance_until_it_is_completed_and_only_once(hooked: Place) -> None:
    assert hooked.terminate()["Activity"]["StatusCode"] == "MidLifecycleAction"
    assert hooked.state(FIRST) == "Terminating:Wait"
    hooked.complete("CONTINUE")
    assert hooked.state(FIRST) == "Terminating:Proceed"
    told = ("ValidationError", f"No active Lifecycle Action found with instance ID {FIRST}")
    with pytest.raises(ClientError) as raised:
        hooked.complete("CONTINUE")
    assert code_of(raised) == told
    with pytest.raises(ClientError) as raised:
        hooked.heartbeat()
    assert code_of(raised) == told
    hooked.clock.advance(31)
    assert hooked.state(FIRST) == "Terminated"


def test_a_token_must_be_the_one_of_the_action(hooked: Place) -> None:
    hooked.terminate()
    wrong = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(ClientError, match=f"No active Lifecycle Action found with token {wrong}"):
        hooked.complete("CONTINUE", LifecycleActionToken=wrong)
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        hooked.complete("CONTINUE", hook="another-hook")
    hooked.complete("CONTINUE", LifecycleActionToken=hooked.auto_scaling.actions(FIRST)[0].token)
    assert hooked.state(FIRST) == "Terminating:Proceed"


def test_a_heartbeat_restarts_the_timer_and_silence_gives_the_default_result() -> None:
    hook = Hook(HOOK, heartbeat_timeout_s=300, default_result=CONTINUE)
    # Retention has no effect where the default is to continue.
    with place(Policy((hook,), retain_on_abandon=True)) as here:
        here.terminate()
        here.clock.advance(299)
        here.heartbeat()
        here.clock.advance(299)
        assert here.state(FIRST) == "Terminating:Wait"
        here.clock.advance(2)
        assert here.state(FIRST) == "Terminating:Proceed"


def test_time_can_run_faster_than_the_real_one() -> None:
    clock = Clock(factor=3600)
    auto_scaling = AutoScaling([Group(GROUP, Policy((Hook(HOOK, heartbeat_timeout_s=300),)))], clock=clock)
    auto_scaling.launch(GROUP, FIRST)
    auto_scaling.call(
        "TerminateInstanceInAutoScalingGroup", {"InstanceId": FIRST, "ShouldDecrementDesiredCapacity": False}
    )
    ends_at = time.monotonic() + 20
    while auto_scaling.state(FIRST) == "Terminating:Wait":
        assert time.monotonic() < ends_at, "the hook's five minutes do not pass"
        time.sleep(0.01)


def test_no_heartbeat_carries_past_a_hundred_times_the_time_out(retaining: Place) -> None:
    retaining.terminate()
    for _ in range(101):
        retaining.clock.advance(297)
        retaining.heartbeat()
    retaining.clock.advance(297)
    assert retaining.state(FIRST) == "Terminating:Retained"


def test_the_wait_ends_after_two_days_at_the_latest() -> None:
    assert Hook(HOOK, heartbeat_timeout_s=7200).global_timeout_s == 48 * 3600
    assert Hook(HOOK, heartbeat_timeout_s=30).global_timeout_s == 3000


@pytest.mark.parametrize("by", ["call", "silence"])
def test_abandon_retains_the_instance_until_it_is_terminated_again(retaining: Place, by: str) -> None:
    retaining.terminate()
    if by == "call":
        retaining.complete("ABANDON")
    else:
        retaining.clock.advance(301)
    assert retaining.state(FIRST) == "Terminating:Retained"
    retaining.clock.advance(7 * 86400)
    assert retaining.state(FIRST) == "Terminating:Retained"
    retaining.terminate()
    assert retaining.state(FIRST) == "Terminating"
    retaining.clock.advance(31)
    assert retaining.state(FIRST) == "Terminated"


def test_abandon_ends_the_instance_where_nothing_retains_it(hooked: Place) -> None:
    hooked.terminate()
    hooked.complete("ABANDON")
    assert hooked.state(FIRST) == "Terminating:Proceed"


def test_a_launch_hook_holds_a_new_instance_back() -> None:
    hook = Hook("etcd-joins", LAUNCHING, 600)
    with place(Policy((hook,))) as here:
        assert here.state(FIRST) == "Pending:Wait"
        here.complete("CONTINUE", FIRST, hook.name)
        here.complete("ABANDON", SECOND, hook.name)
        assert [here.state(one) for one in (FIRST, SECOND, THIRD)] == ["InService", "Terminating", "Pending:Wait"]


def test_all_hooks_must_continue_and_one_abandon_skips_the_others() -> None:
    with place(Policy((Hook(HOOK), Hook("drain")))) as here:
        here.terminate(FIRST)
        here.complete("CONTINUE", FIRST)
        assert here.state(FIRST) == "Terminating:Wait"
        here.complete("CONTINUE", FIRST, "drain")
        assert here.state(FIRST) == "Terminating:Proceed"
        here.terminate(SECOND)
        here.complete("ABANDON", SECOND, "drain")
        assert here.state(SECOND) == "Terminating:Proceed"


def test_hooks_and_the_retention_are_told(retaining: Place) -> None:
    hooks = retaining.client.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"]
    assert [(hook["LifecycleHookName"], hook["HeartbeatTimeout"], hook["GlobalTimeout"]) for hook in hooks] == [
        (HOOK, 300, 30000)
    ]
    group = retaining.client.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]
    assert group["InstanceLifecyclePolicy"]["RetentionTriggers"]["TerminateHookAbandon"] == "retain"


def test_a_state_can_be_set(plain: Place) -> None:
    plain.auto_scaling.set_state(SECOND, "Standby")
    assert plain.state(SECOND) == "Standby"


def test_bad_input_is_a_validation_error(hooked: Place) -> None:
    hooked.terminate()
    with pytest.raises(ClientError, match="must be CONTINUE or ABANDON") as raised:
        hooked.complete("PROCEED")
    assert code_of(raised)[0] == "ValidationError"
    with pytest.raises(ClientError, match="length less than or equal to 19"):
        hooked.complete("CONTINUE", "i-" + "0" * 30)
    with pytest.raises(ClientError, match="does not do AttachInstances"):
        hooked.client.attach_instances(AutoScalingGroupName=GROUP, InstanceIds=[FIRST])


def test_a_throttled_call_is_retried_by_the_sdk_and_both_are_on_record(plain: Place) -> None:
    plain.server.throttle_next("DescribeLifecycleHooks")
    client_of(plain.server, attempts=2).describe_lifecycle_hooks(AutoScalingGroupName=GROUP)
    seen = [(call.operation, call.error_code) for call in plain.server.calls]
    assert seen == [("DescribeLifecycleHooks", "Throttling"), ("DescribeLifecycleHooks", "")]
    assert all("Boto3" in call.user_agent and b"Action=Describe" in call.body for call in plain.server.calls)


@pytest.mark.parametrize("body, code", [
    (b"Action=Describe%FF", "InvalidAction"),
    (b"", "InvalidAction"),
    (b"Action=DescribeAutoScalingGroups&MaxRecords=many", "MalformedQueryString"),
    (b"Action=DescribeAutoScalingInstances&InstanceIds=a&InstanceIds.member.1=b", "MalformedQueryString"),
    (b"Action=DescribeAutoScalingGroups&AutoScalingGroupNames.1=b", "MalformedQueryString"),
    (b"Action=CompleteLifecycleAction", "ValidationError"),
])  # fmt: skip
def test_what_is_no_proper_call_gets_an_answer(plain: Place, body: bytes, code: str) -> None:
    request = urllib.request.Request(plain.server.endpoint_url, body, method="POST")  # noqa: S310 - http, by the server
    with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(request):  # noqa: S310 - as above
        pass
    with raised.value as answer:
        assert answer.code == 400
        assert f"<Code>{code}</Code>".encode() in answer.read()
