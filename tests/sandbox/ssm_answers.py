"""How SSM tells of documents, machines, commands and invocations."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.sandbox.ssm_delivery import ENDED, Invocation, Machine, Report
from tests.sandbox.ssm_document import Document

PLUGIN_NAME = "aws:runShellScript"
PLUGIN_OUTPUT_LIMIT = 2500
ERROR_MARK = "\n----------ERROR-------\n"


def document(latest: Document) -> dict[str, Any]:
    """A DocumentDescription. The default version stays the first one, whatever is added."""
    return {
        "Name": latest.name,
        "DocumentVersion": str(latest.version),
        "LatestVersion": str(latest.version),
        "DefaultVersion": "1",
        "Hash": latest.sha256,
        "HashType": "Sha256",
        "Status": "Active",
        "SchemaVersion": "2.2",
        "DocumentType": "Command",
        "PlatformTypes": ["Linux"],
        "Parameters": [{"Name": one.name, "Type": one.type} for one in latest.parameters.values()],
    }


def machine(one: Machine, now: float) -> dict[str, Any]:
    """An InstanceInformation."""
    return {
        "InstanceId": one.instance_id,
        "PingStatus": one.ping_status,
        "LastPingDateTime": now,
        "AgentVersion": "3.3.2746.0",
        "PlatformType": "Linux",
        "PlatformName": "Debian GNU/Linux",
        "PlatformVersion": "12",
        "ResourceType": "EC2Instance",
    }


def command(invocations: Sequence[Invocation]) -> dict[str, Any]:
    """A Command, with the status that its invocations add up to."""
    sent = invocations[0].command
    reports = [one.told() for one in invocations]
    status, details = _overall(reports)
    return {
        "CommandId": sent.command_id,
        "DocumentName": sent.document.name,
        "DocumentVersion": sent.version_asked,
        "Comment": sent.comment,
        "ExpiresAfter": sent.expires_at,
        "Parameters": sent.given,
        "InstanceIds": [one.machine.instance_id for one in invocations],
        "Targets": [],
        "RequestedDateTime": sent.requested_at,
        "Status": status,
        "StatusDetails": details,
        "MaxConcurrency": "50",
        "MaxErrors": "0",
        "TargetCount": len(invocations),
        "CompletedCount": sum(report.status in ENDED for report in reports),
        "ErrorCount": sum(report.details in ("Failed", "ExecutionTimedOut") for report in reports),
        "DeliveryTimedOutCount": sum(report.details == "DeliveryTimedOut" for report in reports),
        "TimeoutSeconds": sent.delivery_timeout_s,
    }


def invocation(one: Invocation) -> dict[str, Any]:
    """What GetCommandInvocation tells."""
    report = one.told()
    return _of_command(one, report) | {
        "PluginName": PLUGIN_NAME,
        "ResponseCode": report.exit_code,
        "ExecutionStartDateTime": _moment(report.started_at),
        "ExecutionElapsedTime": _elapsed(report),
        "ExecutionEndDateTime": _moment(report.ended_at),
        "StandardOutputContent": report.stdout,
        "StandardOutputUrl": "",
        "StandardErrorContent": report.stderr,
        "StandardErrorUrl": "",
        "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": False},
    }


def row(one: Invocation, details: bool) -> dict[str, Any]:
    """What ListCommandInvocations tells of one; its plugins with `details` only."""
    report = one.told()
    told = _of_command(one, report) | {"RequestedDateTime": one.command.requested_at, "CommandPlugins": []}
    if details:
        output = report.stdout + (f"{ERROR_MARK}{report.stderr}" if report.stderr else "")
        # Of a plugin there is no Delayed and no Cancelling.
        status = report.status if report.status in ENDED | {"Pending", "InProgress"} else "InProgress"
        plugin = {
            "Name": PLUGIN_NAME,
            "Status": status,
            "StatusDetails": report.details,
            "ResponseCode": report.exit_code,
            "ResponseStartDateTime": report.started_at,
            "ResponseFinishDateTime": report.ended_at,
            "Output": output[:PLUGIN_OUTPUT_LIMIT],
        }
        told["CommandPlugins"] = [{name: value for name, value in plugin.items() if value is not None}]
    return told


def _of_command(one: Invocation, report: Report) -> dict[str, Any]:
    return {
        "CommandId": one.command.command_id,
        "InstanceId": one.machine.instance_id,
        "Comment": one.command.comment,
        "DocumentName": one.command.document.name,
        "DocumentVersion": one.command.version_asked,
        "Status": report.status,
        "StatusDetails": report.details,
    }


def _overall(reports: Sequence[Report]) -> tuple[str, str]:
    seen = {report.status for report in reports}
    if seen <= {"Pending", "Delayed"}:
        return "Pending", "Pending"
    if "Cancelling" in seen:
        return "Cancelling", "Cancelling"
    if not seen <= ENDED:
        return "InProgress", "InProgress"
    worst = next(status for status in ("Failed", "TimedOut", "Cancelled", "Success") if status in seen)
    return worst, next(report.details for report in reports if report.status == worst)


def _moment(moment: float | None) -> str:
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _elapsed(report: Report) -> str:
    if report.started_at is None or report.ended_at is None:
        return ""
    return f"PT{report.ended_at - report.started_at:.3f}S"
