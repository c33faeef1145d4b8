"""A stand-in for SSM Run Command: documents with versions, machines that ping, commands that really run.

It answers as the service does, refusals included; what a command does on its way is in `ssm_delivery`.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.sandbox import ssm_answers, ssm_document
from tests.sandbox.aws_protocol import AwsError, page
from tests.sandbox.clock import Clock
from tests.sandbox.ssm_delivery import ENDED, Command, Courier, Invocation, Machine
from tests.sandbox.ssm_document import Document

ACCOUNT = "123456789012"
DEFAULT_DELIVERY_TIMEOUT_S = 3600
# What a machine may be for SendCommand to take it; one that is stopped is taken, and the command waits.
VALID_STATES = {"pending", "running", "stopping", "stopped"}


class Ssm:
    """The service. `machines` may be changed at any time; documents are `name: YAML`, each version 1 at first."""

    def __init__(
        self, folder: Path, machines: Iterable[Machine] = (), *, documents: Mapping[str, str] | None = None,
        log_file: Path | None = None, clock: Clock | None = None, invisible_s: float = 0.5, page_size: int = 10,
    ) -> None:  # fmt: skip
        self.machines = {machine.instance_id: machine for machine in machines}
        self._clock = clock or Clock()
        self._invisible_s = invisible_s
        self._page_size = page_size
        self._courier = Courier(folder, self._clock, log_file)
        self._lock = threading.RLock()
        self._documents: dict[str, list[Document]] = {}
        self._invocations: dict[str, list[Invocation]] = {}
        for name, content in (documents or {}).items():
            self.put_document(name, content)
        self._calls: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "CreateDocument": self._create_document,
            "UpdateDocument": self._update_document,
            "DescribeInstanceInformation": self._describe_machines,
            "SendCommand": self._send,
            "GetCommandInvocation": self._get_invocation,
            "ListCommandInvocations": self._list_invocations,
            "ListCommands": self._list_commands,
            "CancelCommand": self._cancel,
        }

    def put_document(self, name: str, content: str, *, form: str = "YAML") -> int:
        """Adds a version of a document and returns its number. Raises AwsError for what SSM would not take."""
        with self._lock:
            versions = self._documents.get(name, [])
            if versions and versions[-1].content == content:
                raise AwsError("DuplicateDocumentContent", "The content of the document version already exists.")
            document = ssm_document.parse(name, len(versions) + 1, content, form=form)
            self._documents[name] = [*versions, document]
            return document.version

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The operation's result. Raises AwsError."""
        do = self._calls.get(operation)
        if do is None:
            raise AwsError("UnknownOperationException", f"the stand-in does not do {operation}")
        with self._lock:
            return do(arguments)

    def close(self) -> None:
        """Kills the scripts that run and waits for all threads."""
        self._courier.close()

    def _create_document(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if arguments["Name"] in self._documents:
            raise AwsError("DocumentAlreadyExists", "The specified document already exists.")
        self.put_document(arguments["Name"], arguments["Content"], form=arguments.get("DocumentFormat", "JSON"))
        return {"DocumentDescription": ssm_answers.document(self._document(arguments["Name"], "$LATEST"))}

    def _update_document(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        latest = self._document(arguments["Name"], "$LATEST")
        if arguments.get("DocumentVersion", "$LATEST") not in ("$LATEST", str(latest.version)):
            raise AwsError("InvalidDocumentVersion", "Only the latest version of a document can be updated.")
        self.put_document(arguments["Name"], arguments["Content"], form=arguments.get("DocumentFormat", "JSON"))
        return {"DocumentDescription": ssm_answers.document(self._document(arguments["Name"], "$LATEST"))}

    def _document(self, name: str, version: str) -> Document:
        versions = self._documents.get(name.rpartition("/")[2])
        if versions is None:
            raise AwsError("InvalidDocument", f"Document with name {name} does not exist.")
        number = {"$DEFAULT": 1, "$LATEST": len(versions)}.get(version) or int(version)
        if number > len(versions):
            raise AwsError("InvalidDocumentVersion", f"Document version {version} does not exist for {name}.")
        return versions[number - 1]

    def _describe_machines(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = [(one["Key"], one["Values"]) for one in arguments.get("Filters", ())]
        wanted += [(one["key"], one["valueSet"]) for one in arguments.get("InstanceInformationFilterList", ())]
        found = [machine for machine in self.machines.values() if machine.state in VALID_STATES]
        for key, values in wanted:
            if key not in ("InstanceIds", "PingStatus"):
                raise AwsError("InvalidFilterKey", f"the stand-in does not filter by {key}")
            attribute = "instance_id" if key == "InstanceIds" else "ping_status"
            found = [machine for machine in found if getattr(machine, attribute) in values]
        rows, token = self._page(found, arguments)
        return {"InstanceInformationList": [ssm_answers.machine(one, self._clock.now()) for one in rows], **token}

    def _send(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        ids = arguments.get("InstanceIds", [])
        if arguments.get("Targets") or not ids:
            raise AwsError("InvalidParameters", "the stand-in sends to InstanceIds, and to at least one")
        if len(set(ids)) < len(ids):
            raise AwsError("DuplicateInstanceId", "You can't specify an instance ID in more than one place.")
        asked = arguments.get("DocumentVersion", "$DEFAULT")
        document = self._document(arguments["DocumentName"], asked)
        if arguments.get("DocumentHash", document.sha256) != document.sha256:
            raise AwsError("InvalidDocument", "The document's hash is another one.")
        given = arguments.get("Parameters", {})
        values = document.values(given)
        unfit = [one for one in ids if one not in self.machines or self.machines[one].state not in VALID_STATES]
        if unfit:
            told = ", ".join(unfit)
            raise AwsError("InvalidInstanceId", f"Instances [[{told}]] not in a valid state for account {ACCOUNT}")
        command = Command(
            str(uuid.uuid4()), document, asked, values, given, arguments.get("Comment", ""),
            arguments.get("TimeoutSeconds", DEFAULT_DELIVERY_TIMEOUT_S), self._clock.now(),
        )  # fmt: skip
        machines = [self.machines[one] for one in ids]
        invocations = [Invocation(command, machine, machine.delivery) for machine in machines]
        self._invocations[command.command_id] = invocations
        told_command = ssm_answers.command(invocations)
        for invocation in invocations:
            self._courier.send(invocation)
        return {"Command": told_command}

    def _get_invocation(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        for one in self._visible(arguments["CommandId"]):
            if one.machine.instance_id == arguments["InstanceId"]:
                return ssm_answers.invocation(one)
        raise AwsError("InvocationDoesNotExist", "")

    def _list_invocations(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        found = [one for command_id in self._newest_first(arguments) for one in self._visible(command_id)]
        wanted = arguments.get("InstanceId")
        found = [one for one in found if not wanted or one.machine.instance_id == wanted]
        rows, token = self._page(found, arguments)
        details = arguments.get("Details", False)
        return {"CommandInvocations": [ssm_answers.row(one, details) for one in rows], **token}

    def _list_commands(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = arguments.get("InstanceId")
        found = [self._invocations[command_id] for command_id in self._newest_first(arguments)]
        found = [ones for ones in found if not wanted or any(one.machine.instance_id == wanted for one in ones)]
        rows, token = self._page(found, arguments)
        return {"Commands": [ssm_answers.command(ones) for ones in rows], **token}

    def _cancel(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        invocations = self._invocations.get(arguments["CommandId"])
        if invocations is None:
            raise AwsError("InvalidCommandId", "The specified command ID isn't valid.")
        wanted = arguments.get("InstanceIds") or [one.machine.instance_id for one in invocations]
        if set(wanted) - {one.machine.instance_id for one in invocations}:
            raise AwsError("InvalidInstanceId", "The command was not sent to all of these instances.")
        for one in invocations:
            if one.machine.instance_id in wanted and one.report.status not in ENDED:
                one.cancel.set()
        return {}

    def _newest_first(self, arguments: Mapping[str, Any]) -> list[str]:
        if arguments.get("Filters"):
            raise AwsError("InvalidFilterKey", "the stand-in finds commands by CommandId and InstanceId only")
        wanted = arguments.get("CommandId")
        return [one for one in reversed(self._invocations) if not wanted or one == wanted]

    def _visible(self, command_id: str) -> list[Invocation]:
        """An invocation is not to be found right after its command was sent."""
        seen_from = self._clock.now() - self._invisible_s
        return [one for one in self._invocations.get(command_id, ()) if one.command.requested_at <= seen_from]

    def _page(self, rows: Sequence[Any], arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, str]]:
        return page(rows, arguments.get("NextToken"), arguments.get("MaxResults", self._page_size))
