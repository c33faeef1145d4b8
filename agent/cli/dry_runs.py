"""`--dry-run`: the plan and the verdict with its reason, by the rules that the operation itself will run under."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent import __version__, bootstrap_ports
from agent.adapters import files
from agent.cli import tables
from agent.cli.asking import make_request
from agent.domain.request import ErrorResult
from agent.errors import EXIT_OK, AgentError, Refused
from agent.node import Node
from agent.operations import dry_run
from agent.operations.content import LEVEL
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job

PLANS: Mapping[str, Callable[[Job, SnapshotPorts], dict[str, Any]]] = {
    "snapshot": dry_run.plan_snapshot,
    "verify": dry_run.plan_verify,
}


def print_verdict(node: Node, operation: str, params: Mapping[str, str], as_json: bool) -> int:
    """Prints what would happen. Returns the exit code that the operation would end with now."""
    request = make_request(operation, params)
    job = Job(
        request=request, attempt=0, work_root=node.paths.work, cluster=node.config.cluster,
        node=node.config.node.name, instance_id=node.config.node.instance_id, agent_version=__version__,
    )  # fmt: skip
    plan: dict[str, Any] = {}
    error: ErrorResult | None = None
    exit_code = EXIT_OK
    try:
        plan = _plan(node, job)
    except AgentError as failure:  # a verdict is what was asked for, so it is no failure of this command
        exit_code = failure.exit_code
        rule = f"[{failure.rule}] " if isinstance(failure, Refused) else ""
        error = ErrorResult(failure.code, f"{rule}{failure.message}", failure.hint, failure.retryable)
    document = {
        "dry_run": True, "operation": operation, "would_run": error is None, "params": dict(params), "plan": plan,
        "daemon_is_there": node.daemon_is_there, "error": msgspec.to_builtins(error),
    }  # fmt: skip
    if as_json:
        tables.print_json(document)
    else:
        _print(document, error)
    return exit_code


def _plan(node: Node, job: Job) -> dict[str, Any]:
    if job.request.params.get("level") == LEVEL:
        return dry_run.plan_content(job, bootstrap_ports.make_content_ports(node))
    return PLANS[job.request.operation](job, replace(bootstrap_ports.make_snapshot_ports(node), free_bytes=_free_bytes))


def _print(document: Mapping[str, Any], error: ErrorResult | None) -> None:
    screen = tables.console()
    if error is not None:
        screen.print(tables.plain(f"{document['operation']} would not succeed now; nothing was changed", "bold"))
        screen.print(tables.error_lines(error.code, error.message, error.hint))
    else:
        screen.print(tables.plain(f"{document['operation']} would run now; nothing was changed", "bold"))
        screen.print(tables.pairs((name.replace("_", " "), _shown(name, it)) for name, it in document["plan"].items()))
    if not document["daemon_is_there"]:
        screen.print(tables.plain("no daemon is running: a request would wait until one starts", "yellow"))


def _shown(name: str, value: Any) -> str:
    return tables.size(value) if name.endswith("_bytes") else tables.shown(value)


def _free_bytes(folder: Path) -> int:
    """The room where the operation's folder would be made."""
    return files.free_bytes(next(parent for parent in (folder, *folder.parents) if parent.exists()))
