"""A stand-in for Auto Scaling: groups whose instances live by `lifecycle`, and the calls that read and move them.

Time comes from a clock, and what ran out is found whenever somebody looks. A group starts no replacement by
itself: the sandbox owns the machines and tells of a new one by `launch`.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox import lifecycle
from tests.sandbox.aws_protocol import AwsError, page
from tests.sandbox.clock import Clock
from tests.sandbox.lifecycle import ABANDON, CONTINUE, TERMINATED, Action, Event, Instance, Policy

REGION, ACCOUNT = "us-east-1", "123456789012"
PAGE_SIZE = 50


@dataclass
class Group:
    """A group with its instances by id."""

    name: str
    policy: Policy = field(default_factory=Policy)
    desired: int = 3
    minimum: int = 0
    maximum: int = 10
    instances: dict[str, Instance] = field(default_factory=dict)


class AutoScaling:
    """The service. Its calls and its methods may be used from any thread."""

    def __init__(self, groups: Iterable[Group] = (), *, clock: Clock | None = None, page_size: int = PAGE_SIZE) -> None:
        self._groups = {group.name: group for group in groups}
        self._clock = clock or Clock()
        self._page_size = page_size
        self._created_at = self._clock.now()
        self._lock = threading.RLock()
        self._calls: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "DescribeAutoScalingGroups": self._describe_groups,
            "DescribeAutoScalingInstances": self._describe_instances,
            "DescribeLifecycleHooks": self._describe_hooks,
            "TerminateInstanceInAutoScalingGroup": self._terminate,
            "CompleteLifecycleAction": self._complete,
            "RecordLifecycleActionHeartbeat": self._heartbeat,
        }

    def launch(self, group_name: str, instance_id: str, *, zone: str = f"{REGION}a") -> None:
        """A machine joins its group: Pending:Wait while a launch hook waits, else InService."""
        with self._lock:
            booting = Instance(instance_id, "Pending", zone)
            self._groups[group_name].instances[instance_id] = booting
            self._apply(self._groups[group_name], booting, lifecycle.Launch())

    def set_state(self, instance_id: str, state: str) -> None:
        """Puts an instance into a state as it is, such as Standby; hooks do not matter."""
        with self._lock:
            group, instance = self._find(instance_id)
            group.instances[instance_id] = Instance(instance_id, state, instance.zone)

    def state(self, instance_id: str) -> str:
        """The lifecycle state now; Terminated when the group no longer lists it."""
        with self._lock:
            self._look()
            return next((one.state for _, one in self._all() if one.instance_id == instance_id), TERMINATED)

    def actions(self, instance_id: str) -> tuple[Action, ...]:
        """The hooks that wait for an instance, with the tokens that their events carry."""
        with self._lock:
            self._look()
            return self._find(instance_id)[1].actions

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The operation's result. Raises AwsError."""
        do = self._calls.get(operation)
        if do is None:
            raise AwsError("InvalidAction", f"the stand-in does not do {operation}")
        with self._lock:
            self._look()
            return do(arguments)

    def close(self) -> None:
        """Nothing runs here between calls."""

    def _describe_groups(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if arguments.get("Filters"):
            raise AwsError("ValidationError", "the stand-in finds groups by their names only")
        names = arguments.get("AutoScalingGroupNames") or list(self._groups)
        found = [self._groups[name] for name in sorted(set(names)) if name in self._groups]
        rows, token = self._page(found, arguments)
        with_instances = arguments.get("IncludeInstances", True)
        return {"AutoScalingGroups": [self._told(group, with_instances) for group in rows], **token}

    def _describe_instances(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = arguments.get("InstanceIds")
        found = [(group, one) for group, one in self._all() if not wanted or one.instance_id in wanted]
        rows, token = self._page(found, arguments)
        told = [
            {"AutoScalingGroupName": group.name, **_told_instance(one), "HealthStatus": "HEALTHY"}
            for group, one in rows
        ]
        return {"AutoScalingInstances": told, **token}

    def _describe_hooks(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        group = self._group(arguments["AutoScalingGroupName"])
        wanted = arguments.get("LifecycleHookNames")
        return {
            "LifecycleHooks": [
                {
                    "LifecycleHookName": hook.name,
                    "AutoScalingGroupName": group.name,
                    "LifecycleTransition": hook.transition,
                    "HeartbeatTimeout": hook.heartbeat_timeout_s,
                    "GlobalTimeout": int(hook.global_timeout_s),
                    "DefaultResult": hook.default_result,
                }
                for hook in group.policy.hooks
                if not wanted or hook.name in wanted
            ]
        }

    def _terminate(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        instance_id = arguments.get("InstanceId", "")
        group, instance = self._find(instance_id)
        if arguments["ShouldDecrementDesiredCapacity"]:
            if group.desired <= group.minimum:
                raise AwsError(
                    "ValidationError",
                    f"Currently, desiredSize equals minSize ({group.minimum}). Terminating instance without "
                    "replacement will violate group's min size constraint.",
                )
            group.desired -= 1
        self._apply(group, instance, lifecycle.Terminate())
        waits = bool(group.instances[instance_id].actions)
        return {
            "Activity": {
                "ActivityId": str(uuid.uuid4()),
                "AutoScalingGroupName": group.name,
                "Description": f"Terminating EC2 instance: {instance_id}",
                "Cause": f"instance {instance_id} was taken out of service in response to a user request.",
                "StartTime": self._clock.now(),
                "StatusCode": "MidLifecycleAction" if waits else "InProgress",
                "Progress": 0,
            }
        }

    def _complete(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        result = arguments["LifecycleActionResult"]
        if result not in (CONTINUE, ABANDON):
            raise AwsError("ValidationError", f"LifecycleActionResult must be {CONTINUE} or {ABANDON}, not {result!r}")
        group, instance, action = self._active(arguments)
        self._apply(group, instance, lifecycle.Complete(action.hook.name, result))
        return {}

    def _heartbeat(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        group, instance, action = self._active(arguments)
        self._apply(group, instance, lifecycle.Heartbeat(action.hook.name))
        return {}

    def _active(self, arguments: Mapping[str, Any]) -> tuple[Group, Instance, Action]:
        """The hook that waits, found by instance id or token; both must fit when both are given."""
        group = self._group(arguments["AutoScalingGroupName"])
        instance_id, token = arguments.get("InstanceId"), arguments.get("LifecycleActionToken")
        if not instance_id and not token:
            raise AwsError("ValidationError", "An instance ID or a lifecycle action token is needed.")
        for instance in group.instances.values():
            for action in instance.actions:
                fits = (not token or action.token == token) and (not instance_id or instance.instance_id == instance_id)
                if fits and action.hook.name == arguments["LifecycleHookName"]:
                    return group, instance, action
        told = f"token {token}" if token else f"instance ID {instance_id}"
        raise AwsError("ValidationError", f"No active Lifecycle Action found with {told}")

    def _page(self, rows: list[Any], arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, str]]:
        return page(rows, arguments.get("NextToken"), min(arguments.get("MaxRecords", self._page_size), 100))

    def _told(self, group: Group, with_instances: bool) -> Mapping[str, Any]:
        retention = "retain" if group.policy.retain_on_abandon else "terminate"
        return {
            "AutoScalingGroupName": group.name,
            "AutoScalingGroupARN": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:"
            f"{uuid.uuid5(uuid.NAMESPACE_DNS, group.name)}:autoScalingGroupName/{group.name}",
            "MinSize": group.minimum,
            "MaxSize": group.maximum,
            "DesiredCapacity": group.desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": sorted({one.zone for one in group.instances.values()}),
            "HealthCheckType": "EC2",
            "CreatedTime": self._created_at,
            "InstanceLifecyclePolicy": {"RetentionTriggers": {"TerminateHookAbandon": retention}},
            "Instances": [_told_instance(one) for one in group.instances.values()] if with_instances else [],
        }

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        return self._groups[name]

    def _find(self, instance_id: str) -> tuple[Group, Instance]:
        for group, instance in self._all():
            if instance.instance_id == instance_id:
                return group, instance
        raise AwsError(
            "ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
        )

    def _all(self) -> list[tuple[Group, Instance]]:
        return [(group, instance) for group in self._groups.values() for instance in group.instances.values()]

    def _look(self) -> None:
        for group, instance in self._all():
            self._apply(group, instance, lifecycle.Look())

    def _apply(self, group: Group, instance: Instance, event: Event) -> None:
        after = lifecycle.transition(instance, event, group.policy, self._clock.now(), lambda: str(uuid.uuid4()))
        if after is None:
            del group.instances[instance.instance_id]
        else:
            group.instances[instance.instance_id] = after


def _told_instance(instance: Instance) -> dict[str, Any]:
    return {
        "InstanceId": instance.instance_id,
        "InstanceType": "m7g.large",
        "AvailabilityZone": instance.zone,
        "LifecycleState": instance.state,
        "HealthStatus": "Healthy",
        "ProtectedFromScaleIn": False,
    }
