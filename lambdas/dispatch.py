"""What every handler shares: choose the node to ask, send it one SSM command, and log what was done and why.

No waiting, no knowledge of etcd, and nothing happens at import: boto3 is loaded by the first call. Of `agent`
only `trace` and `logs` may be used, for the zip holds nothing else of it.
"""

import contextlib
import functools
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent import __version__, logs, trace
from agent.logs import emit

DELIVERY_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
MOST_ATTEMPTS = 3
FILTER_VALUES_MOST = 50
MOST_GROUPS = 10

_X_RAY_ROOT = re.compile(r"(?:\A|;)Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;|\Z)")
_SETTINGS = {
    "CLUSTER": (re.compile(r"[a-z0-9][a-z0-9.-]{0,62}"), "the cluster's name in the agents' configuration"),
    "AUTO_SCALING_GROUPS": (
        re.compile(r"[^,:\x00-\x1f]{1,255}(,[^,:\x00-\x1f]{1,255}){0,%d}" % (MOST_GROUPS - 1)),
        f"1 to {MOST_GROUPS} names of Auto Scaling groups with commas between them",
    ),
    "SSM_DOCUMENT": (re.compile(r"[a-zA-Z0-9_.:/-]{3,128}"), "a document's name or ARN"),
    # A number, never $LATEST: who may write a document must not thereby change what the function runs.
    "SSM_DOCUMENT_VERSION": (re.compile(r"[1-9][0-9]{0,8}"), "a version number"),
}
log = logging.getLogger(__name__)


class DispatchFailed(Exception):
    """No node was asked. Lambda's own report and the dead-letter queue hold only the text: the trace is in it."""

    code = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} (trace={trace.current_trace_id()})")
        self.message = message
        self.hint = hint


class BadEvent(DispatchFailed):
    """The event is none that this handler is for."""

    code = "bad_input"


class BadSettings(DispatchFailed):
    """The function's environment is incomplete or wrong."""

    code = "config_invalid"


class NoEligibleNode(DispatchFailed):
    """No instance is in service and reachable by SSM."""

    code = "no_eligible_node"


class AwsRefused(DispatchFailed):
    """AWS said no."""

    code = "aws_refused"


class AwsUnavailable(DispatchFailed):
    """AWS did not answer, or is overloaded."""

    code = "aws_unavailable"


@dataclass(frozen=True)
class Trigger:
    """What an event asks for. One with problems is refused; its trace id is fresh, so that the refusal has one."""

    trace_id: str
    op_id: str = ""
    requested_at: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """The function's environment."""

    groups: tuple[str, ...]
    document: str
    document_version: str


@contextlib.contextmanager
def invocation(service: str, operation: str, trigger: Trigger, context: object) -> Iterator[None]:
    """Binds the trace and a root span for the block, and logs how it began and ended."""
    started = time.monotonic()
    _configure_logs(service, context)
    with trace.bound(trace_id=trigger.trace_id, op_id=trigger.op_id, operation=operation), trace.span():
        emit(log, logging.INFO, "lambda.started", f"an event asks for {operation}")
        try:
            yield
        except DispatchFailed as error:
            emit(log, logging.ERROR, "lambda.failed", error.message, error_code=error.code,
                 error_message=error.message, error_hint=error.hint, duration_ms=_since(started))  # fmt: skip
            raise
        except Exception as error:
            fields = {"error_code": "internal_error", "error_message": f"{type(error).__name__}: {error}"}
            log.exception("unexpected error", extra={"event": "lambda.failed", "duration_ms": _since(started), **fields})
            raise
        emit(log, logging.INFO, "lambda.finished", f"one node was asked for {operation}", duration_ms=_since(started))


def ask_one_node(operation: str, trigger: Trigger) -> dict[str, str]:
    """Chooses a node and sends it the command. Raises DispatchFailed."""
    if trigger.problems:
        raise BadEvent(
            f"the event is not valid: {'; '.join(trigger.problems)}",
            hint="which rule sends it? only its own schedule may invoke this function",
        )
    settings = read_settings(os.environ)
    instance_id = _find_node(settings.groups, trigger.op_id)
    command_id = _send(settings, operation, trigger, instance_id)
    return {
        "trace_id": trigger.trace_id, "op_id": trigger.op_id, "instance_id": instance_id, "command_id": command_id,
    }  # fmt: skip


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads the function's environment. Raises BadSettings with all problems at once."""
    problems = []
    for name, (pattern, expected) in _SETTINGS.items():
        value = environment.get(name, "")
        if not value:
            problems.append(f"{name} is missing: {expected}")
        elif not pattern.fullmatch(value):
            problems.append(f"{name} is {trace.printable_excerpt(value)!r}, not {expected}")
    if problems:
        raise BadSettings(f"the function's environment: {'; '.join(problems)}", hint="correct the function's variables")
    return Settings(
        groups=tuple(name.strip() for name in environment["AUTO_SCALING_GROUPS"].split(",")),
        document=environment["SSM_DOCUMENT"],
        document_version=environment["SSM_DOCUMENT_VERSION"],
    )


def choose(op_id: str, instance_ids: Iterable[str]) -> str:
    """The instance with the highest hash: duplicates of an event meet on one node, different events spread."""
    return max(instance_ids, key=lambda instance_id: hashlib.sha256(f"{op_id}|{instance_id}".encode()).hexdigest())


def _find_node(groups: tuple[str, ...], op_id: str) -> str:
    states = _lifecycle_states(groups)
    in_service = sorted(instance_id for instance_id, state in states.items() if state == "InService")
    pings = _ping_states(in_service)
    eligible = [instance_id for instance_id in in_service if pings.get(instance_id) == "Online"]
    skipped = {
        instance_id: f"SSM ping is {pings.get(instance_id, 'unknown: not registered')}" if state == "InService" else state
        for instance_id, state in sorted(states.items())
        if instance_id not in eligible
    }
    if not eligible:
        reasons = "; ".join(f"{instance_id}: {reason}" for instance_id, reason in skipped.items())
        raise NoEligibleNode(
            f"no node of {', '.join(groups)} can be asked: {reasons or 'there are no instances'}",
            hint="a node must be InService and its SSM agent Online: is amazon-ssm-agent running, with a role and a route?",
        )
    instance_id = choose(op_id, eligible)
    emit(log, logging.INFO, "node.chosen", f"{instance_id} is asked, of {len(eligible)} that could be",
         instance_id=instance_id, eligible=eligible, skipped=skipped)  # fmt: skip
    return instance_id


def _lifecycle_states(groups: tuple[str, ...]) -> dict[str, str]:
    states, found = {}, set()
    with _translated("DescribeAutoScalingGroups"):
        pages = client("autoscaling").get_paginator("describe_auto_scaling_groups")
        for page in pages.paginate(AutoScalingGroupNames=list(groups)):
            for group in page["AutoScalingGroups"]:
                found.add(group["AutoScalingGroupName"])
                states |= {instance["InstanceId"]: instance["LifecycleState"] for instance in group["Instances"]}
    for missing in sorted(set(groups) - found):
        # The others can still be asked: a backup is worth more than a clean configuration.
        emit(log, logging.WARNING, "group.missing", f"there is no Auto Scaling group {missing}", group=missing)
    return states


def _ping_states(instance_ids: list[str]) -> dict[str, str]:
    states = {}
    with _translated("DescribeInstanceInformation"):
        for start in range(0, len(instance_ids), FILTER_VALUES_MOST):
            values = instance_ids[start : start + FILTER_VALUES_MOST]
            pages = client("ssm").get_paginator("describe_instance_information")
            for page in pages.paginate(Filters=[{"Key": "InstanceIds", "Values": values}]):
                states |= {known["InstanceId"]: known["PingStatus"] for known in page["InstanceInformationList"]}
    return states


def _send(settings: Settings, operation: str, trigger: Trigger, instance_id: str) -> str:
    parameters = {
        "traceId": trigger.trace_id,
        "parentSpanId": trace.current()["span_id"],
        "operation": operation,
        "opId": trigger.op_id,
        "requestedAt": trigger.requested_at,
    }
    # SendCommand knows no client token, so the SDK's retry after a lost answer can send the command twice. It stays
    # on: both carry one op id to one node, where the second joins the work of the first. The alternative, to
    # raise, would make Lambda send the same again a minute later, and ring the alarm before it.
    with _translated(f"SendCommand to {instance_id}"):
        answer = client("ssm").send_command(
            InstanceIds=[instance_id],
            DocumentName=settings.document,
            DocumentVersion=settings.document_version,
            Parameters={name: [value] for name, value in parameters.items()},
            Comment=f"etcd-agent {operation} trace={trigger.trace_id}",
            TimeoutSeconds=DELIVERY_TIMEOUT_S,
        )
    command_id = str(answer["Command"]["CommandId"])
    emit(log, logging.INFO, "command.sent", f"SSM takes the command to {instance_id}", instance_id=instance_id,
         ssm_command_id=command_id, document=settings.document,
         document_version=settings.document_version)  # fmt: skip
    return command_id


@functools.cache
def client(service: str) -> Any:
    """The client of a service, made on first use and kept while the function is warm."""
    import boto3
    from botocore.config import Config

    made = boto3.client(
        service,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": MOST_ATTEMPTS},
        ),
    )
    # The client outlives the event, so the trace can not be part of its settings. The user agent is not signed, and
    # botocore writes it anew just before it signs: after that is the one place where an addition stays.
    made.meta.events.register("before-send", _add_trace)
    return made


def _add_trace(request: Any, **_: object) -> None:
    sent = request.headers.get("User-Agent", "")
    text = sent.decode() if isinstance(sent, bytes) else sent
    request.headers["User-Agent"] = f"{text} etcd-agent/{__version__} trace/{trace.current_trace_id()}"


@contextlib.contextmanager
def _translated(call: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if "Throttl" in str(error.response.get("Error", {}).get("Code")) or status >= 500:
            raise AwsUnavailable(f"{call}: {error}", hint="the service is overloaded; Lambda tries again") from None
        raise AwsRefused(f"{call}: {error}", hint="check the function's role and variables") from None
    except BotoCoreError as error:
        raise AwsUnavailable(f"{call}: {error}", hint="can the function reach the service?") from None


def _configure_logs(service: str, context: object) -> None:
    fields = {
        "cluster": trace.printable_excerpt(os.environ.get("CLUSTER", "")),
        "lambda_request_id": str(getattr(context, "aws_request_id", "")),
    }
    # Another one for every try of Lambda, so it is logged beside the trace and never used as its id.
    if match := _X_RAY_ROOT.search(os.environ.get("_X_AMZN_TRACE_ID", "")):
        fields["xray_trace_id"] = match[1]
    logs.configure(service=service, version=__version__, fields=fields)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
