"""What every handler shares: choose the node to ask, and send it one SSM command.

No waiting, no knowledge of etcd, and nothing happens at import: boto3 is loaded by the first call. Of `agent`
only `trace` and `logs` may be used, for the zip holds nothing else of it.
"""

import contextlib
import functools
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent import __version__, trace
from agent.logs import emit

DELIVERY_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
MOST_ATTEMPTS = 3
MOST_FILTER_VALUES = 50
IN_SERVICE = "InService"
ONLINE = "Online"

_SETTINGS = {
    "CLUSTER": (re.compile(r"[a-z0-9][a-z0-9.-]{0,62}"), "the cluster's name as the agents know it"),
    "AUTO_SCALING_GROUPS": (
        re.compile(r"[^,:\s][^,:\x00-\x1f]{0,254}(,[^,:\x00-\x1f]{1,255}){0,9}"),
        "up to 10 names of Auto Scaling groups, with commas between them",
    ),
    "SSM_DOCUMENT": (re.compile(r"[a-zA-Z0-9_.:/-]{3,128}"), "a document's name or ARN"),
    # A number, never $LATEST: who may write a new version must not thereby change what the function runs.
    "SSM_DOCUMENT_VERSION": (re.compile(r"[1-9][0-9]{0,8}"), "a version number"),
}
_INSTANCE_ID = re.compile(r"m?i-[0-9a-f]{8,17}")
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
    """AWS did not answer, is overloaded, or answered something else than it says it does."""

    code = "aws_unavailable"


@dataclass(frozen=True)
class Settings:
    """The function's environment."""

    groups: tuple[str, ...]
    document: str
    document_version: str


def ask_one_node(requested_at: str) -> dict[str, str]:
    """Chooses a node and sends it what the bound trace context asks for. Returns the ids; raises DispatchFailed."""
    settings, asked = read_settings(os.environ), trace.current()
    instance_id = _find_node(settings.groups, asked["op_id"])
    command_id = _send(settings, asked, requested_at, instance_id)
    ids = {"trace_id": asked["trace_id"], "op_id": asked["op_id"]}
    return ids | {"instance_id": instance_id, "command_id": command_id}


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
        raise BadSettings("; ".join(problems), hint="correct the function's environment variables")
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
    pings = _ping_states([instance_id for instance_id, state in states.items() if state == IN_SERVICE])
    eligible = [instance_id for instance_id in states if pings.get(instance_id) == ONLINE]
    skipped = {
        instance_id: _unfitness(state, pings.get(instance_id))
        for instance_id, state in sorted(states.items())
        if instance_id not in eligible
    }
    if not eligible:
        reasons = "; ".join(f"{instance_id}: {reason}" for instance_id, reason in skipped.items())
        raise NoEligibleNode(
            f"no node of {', '.join(groups)} can be asked: {reasons or 'there are no instances'}",
            hint="is amazon-ssm-agent running on the nodes, with a role that lets it register and a route to SSM?",
        )
    instance_id = choose(op_id, eligible)
    emit(log, logging.INFO, "node.chosen", f"{instance_id} is the one of {len(eligible)} to be asked",
         instance_id=instance_id, eligible=eligible, skipped=skipped)  # fmt: skip
    return instance_id


def _unfitness(state: str, ping: str | None) -> str:
    if state != IN_SERVICE:
        return f"its lifecycle state is {state}"
    return f"its SSM ping is {ping}" if ping else "it is not registered with SSM"


def _lifecycle_states(groups: tuple[str, ...]) -> dict[str, str]:
    states: dict[str, str] = {}
    found = set()
    with _translated("DescribeAutoScalingGroups"):
        for page in _pages(client("autoscaling").describe_auto_scaling_groups, AutoScalingGroupNames=list(groups)):
            for group in page["AutoScalingGroups"]:
                found.add(str(group["AutoScalingGroupName"]))
                states |= {_id_in(instance): str(instance["LifecycleState"]) for instance in group["Instances"]}
    for missing in sorted(set(groups) - found):
        # The nodes of the others can still be asked: a backup is worth more than a clean configuration.
        emit(log, logging.WARNING, "group.missing", f"there is no Auto Scaling group {missing}", group=missing)
    return states


def _ping_states(instance_ids: list[str]) -> dict[str, str]:
    states: dict[str, str] = {}
    with _translated("DescribeInstanceInformation"):
        for start in range(0, len(instance_ids), MOST_FILTER_VALUES):
            wanted = {"Key": "InstanceIds", "Values": instance_ids[start : start + MOST_FILTER_VALUES]}
            for page in _pages(client("ssm").describe_instance_information, Filters=[wanted]):
                states |= {_id_in(known): str(known["PingStatus"]) for known in page["InstanceInformationList"]}
    return states


def _id_in(instance: Mapping[str, Any]) -> str:
    """Raises ValueError for what is the id of no instance: it would come into messages and the command."""
    instance_id = instance["InstanceId"]
    if not _INSTANCE_ID.fullmatch(instance_id):
        raise ValueError(f"{trace.printable_excerpt(instance_id)!r} is no instance id")
    return str(instance_id)


def _pages(call: Callable[..., Mapping[str, Any]], **arguments: object) -> Iterator[Mapping[str, Any]]:
    """All pages of a call; to load the SDK's own paginators would add 10 ms to a cold start."""
    token: dict[str, str] = {}
    while True:
        page = call(**arguments, **token)
        yield page
        if not page.get("NextToken"):
            return
        if page["NextToken"] == token.get("NextToken"):
            raise ValueError("it names the same next page twice")
        token = {"NextToken": page["NextToken"]}


def _send(settings: Settings, asked: Mapping[str, str], requested_at: str, instance_id: str) -> str:
    parameters = {
        "traceId": asked["trace_id"],
        "parentSpanId": asked["span_id"],
        "operation": asked["operation"],
        "opId": asked["op_id"],
        "requestedAt": requested_at,
    }
    # SendCommand knows no client token, so the SDK's retry after a lost answer can send the command twice. It
    # stays on: both carry one op id to one node, where the second joins the work of the first. To raise instead
    # would only have Lambda send the same command a minute later, after it rang the alarm.
    with _translated(f"SendCommand to {instance_id}"):
        answer = client("ssm").send_command(
            InstanceIds=[instance_id],
            DocumentName=settings.document,
            DocumentVersion=settings.document_version,
            Parameters={name: [value] for name, value in parameters.items()},
            Comment=f"etcd-agent {asked['operation']} trace={asked['trace_id']}",
            TimeoutSeconds=DELIVERY_TIMEOUT_S,
        )
        command_id = str(answer["Command"]["CommandId"])
    emit(log, logging.INFO, "command.sent", f"SSM has the command for {instance_id}", instance_id=instance_id,
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
    # The client outlives the event, so the trace can not be one of its settings. Just before it signs, botocore
    # writes the user agent anew; it does not sign it. So only after that does an addition stay.
    made.meta.events.register("before-send", _add_trace)
    return made


def _add_trace(request: Any, **_: object) -> None:
    given = request.headers.get("User-Agent", "")
    text = given.decode() if isinstance(given, bytes) else given
    request.headers["User-Agent"] = f"{text} etcd-agent/{__version__} trace/{trace.current_trace_id()}"


@contextlib.contextmanager
def _translated(call: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if "Throttl" in str(error.response.get("Error", {}).get("Code")) or str(status).startswith("5"):
            raise AwsUnavailable(f"{call}: {error}", hint="the service is overloaded; Lambda tries again") from None
        raise AwsRefused(f"{call}: {error}", hint="check the function's role and variables") from None
    except BotoCoreError as error:
        raise AwsUnavailable(f"{call}: {error}", hint="can the function reach the service?") from None
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"an answer that can not be read: {type(error).__name__}: {error}"
        raise AwsUnavailable(
            f"{call}: {what}", hint="does a proxy or an endpoint of your own answer for AWS?"
        ) from None
