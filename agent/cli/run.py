"""`run`, the daemon; the hidden `worker` that it starts; the hidden `privileged`, the root service."""

import logging
import os

import click

from agent import bootstrap
from agent.config import Paths
from agent.domain.request import is_op_id
from agent.errors import AgentError, BadInput
from agent.logs import emit
from agent.node import Node, load_node

log = logging.getLogger(__name__)


@click.command()
@click.pass_obj
def run(flags: tuple[str, ...]) -> None:
    """The daemon: serve this node's requests until SIGTERM."""
    node = load_node(flags)
    node.paths.log_folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    bootstrap.configure_logs(node)
    _tell_platform(node)
    bootstrap.make_daemon(node).run()


@click.command(hidden=True)
@click.argument("op_id")
@click.option("--caretaker", "as_caretaker", is_flag=True, help="Look after one that is parked or to be ended.")
@click.pass_obj
def worker(flags: tuple[str, ...], op_id: str, as_caretaker: bool) -> None:
    """Runs one claimed operation."""
    if not is_op_id(op_id):
        raise BadInput(f"{op_id[:80]!r} is no operation id", hint="`etcd-agent ops list` shows them")
    node = load_node(flags)
    if not node.paths.locks.is_dir():
        raise AgentError(f"{node.paths.locks} does not exist", hint="only the daemon starts workers: `etcd-agent run`")
    bootstrap.configure_logs(node)
    worker_ = bootstrap.make_worker(node)

    from agent import caretaker
    from agent.worker import exit_process

    code = caretaker.run(worker_, op_id) if as_caretaker else worker_.run(op_id)

    exit_process(code)


@click.command(hidden=True)
@click.pass_obj
def privileged(flags: tuple[str, ...]) -> int:
    """Handles what waits in `spool/root/`; started by etcd-agent-root.path as root."""
    bootstrap.configure_root_logs()
    return bootstrap.make_root_service(flags, Paths.from_environment(os.environ)).run()


def _tell_platform(node: Node) -> None:
    """What was found when the service started; each operation looks anew.

    Raises ConfigError: a configuration that does not hold together stops the start, not only each operation.
    """
    chosen = node.resolved.detection.chosen
    what = f"{chosen.platform}: {chosen.reason}" if chosen else "no platform was found; the configuration counts alone"
    emit(
        log, logging.INFO, "daemon.platform", what,
        platform=chosen.platform if chosen else "", certainty=chosen.certainty if chosen else "absent",
    )  # fmt: skip
