"""The one wiring place: builds the parts out of the configuration. Imports what is heavy only where it is needed."""

import contextlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import __version__, logs
from agent import bootstrap_ports as ports
from agent.config import EtcdConfig, Paths
from agent.domain.root_request import COPY_TOOLS
from agent.errors import ConfigError
from agent.node import Node, load_node

if TYPE_CHECKING:
    from agent.daemon import Daemon
    from agent.operations.steps import Job, Operation, Steps
    from agent.privileged.service import RootService
    from agent.worker import Worker

SERVICE = "etcd-agent"
ROOT_SERVICE = "etcd-agent-root"


def configure_logs(node: Node, *, to_stderr_from: str = "DEBUG") -> None:
    """Lines go to the log file and to stderr; a command that may not write the file logs to stderr alone."""
    path: Path | None = Path(node.config.log.path)
    fields = {
        "cluster": node.config.cluster,
        "instance_id": node.config.node.instance_id,
        "node": node.config.node.name,
    }
    configure = partial(
        logs.configure, service=SERVICE, version=__version__, level=node.config.log.level,
        stream_level=to_stderr_from, fields=fields,
    )  # fmt: skip
    try:
        configure(file=path)
    except OSError:
        configure()


def configure_root_logs() -> None:
    """The root service logs to stderr alone, which is journald: the log file's folder is a less privileged user's."""
    logs.configure(service=ROOT_SERVICE, version=__version__)


def make_root_service(flags: Sequence[str], paths: Paths) -> "RootService":
    """What serves `spool/root/` as root. It reads the configuration for each request: a bad one is the answer."""
    from agent.privileged.copy_tools import copy_tools
    from agent.privileged.service import RootService
    from agent.privileged.trusted import require_trusted

    def configured() -> EtcdConfig:
        require_trusted(paths.config_file)
        return load_node(flags).etcd

    return RootService(paths.state, {COPY_TOOLS: lambda tools: copy_tools(configured(), tools)})


def make_worker(node: Node) -> "Worker":
    """What runs one operation in this process."""
    from agent.adapters import process, process_priority
    from agent.domain.request import Record
    from agent.operations.steps import Job
    from agent.worker import Worker

    def make_job(record: Record) -> Job:
        acceptance = record.acceptance
        deadline_boot_s = acceptance.deadline_boot_s if acceptance else process.boot_clock_s()
        return Job(
            request=record.request,
            attempt=record.attempt,
            work_root=node.paths.work,
            cluster=node.config.cluster,
            node=node.config.node.name,
            instance_id=node.config.node.instance_id,
            agent_version=__version__,
            fingerprints=fingerprints(node) if record.request.operation == "snapshot" else {},
            time_left_s=lambda: deadline_boot_s - process.boot_clock_s(),
        )

    return Worker(
        node.spool, node.paths.locks, node.paths.work, _operations(node), make_job,
        node.config.daemon.parked_interval_s,
        lambda: process_priority.lower(node.config.snapshot.nice, node.config.snapshot.io_class),
    )  # fmt: skip


def _operations(node: Node) -> "dict[str, Operation]":
    """What each operation does. Each makes its own ports: what is wrong with the configuration becomes its result."""
    from agent.operations import leftovers, outbox, prune, schedule
    from agent.operations.outbox import ShipPorts
    from agent.operations.steps import Operation

    def give_uploads_up(job: "Job", steps: "Steps") -> None:
        leftovers.give_uploads_up(job, lambda: ports.make_store(node))

    def ship(job: "Job", steps: "Steps") -> dict[str, Any]:
        own = ShipPorts(ports.make_store(node), ports.make_outbox(node), ports.upload_limit(node))
        return outbox.run(job, own, steps)

    return {
        "snapshot": Operation(partial(_snapshot, node), farewell=give_uploads_up),
        "verify": Operation(partial(_verify, node)),
        "outbox": Operation(ship, farewell=give_uploads_up),
        "schedule": Operation(lambda job, steps: schedule.run(job, ports.make_schedule_ports(node, steps), steps)),
        "prune": Operation(
            lambda job, steps: prune.run(job, ports.make_prune_ports(node, ports.make_store(node)), steps)
        ),
    }


def _snapshot(node: Node, job: "Job", steps: "Steps") -> dict[str, Any]:
    from agent.operations import scheduled, snapshot

    def take() -> dict[str, Any]:
        return snapshot.run(job, ports.make_snapshot_ports(node), steps)

    _prepare_tools(node, steps)
    if job.request.params.get("scheduled") == "true":
        return scheduled.run(job, ports.make_schedule_ports(node, steps), steps, take)
    return take()


def _verify(node: Node, job: "Job", steps: "Steps") -> dict[str, Any]:
    from agent.operations import content, verify

    _prepare_tools(node, steps)
    if job.request.params.get("level") == content.LEVEL:
        return content.run(job, ports.make_content_ports(node), steps)
    return verify.run(job, ports.make_snapshot_ports(node), steps)


def _prepare_tools(node: Node, steps: "Steps") -> None:
    from agent.operations import tools

    tools.prepare(ports.make_etcd(node), ports.make_tools(node), steps)


def make_daemon(node: Node) -> "Daemon":
    """The supervisor; makes the folders that it owns."""
    from agent.adapters import outbox
    from agent.adapters.systemd import Notifier
    from agent.daemon import Daemon, Timing
    from agent.housekeeping import Housekeeping
    from agent.intake import Intake
    from agent.scheduler import LookSchedule, OutboxSchedule

    for folder in (node.paths.locks, node.paths.log_folder, node.paths.daemon_lock.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    for folder in (node.paths.work, node.paths.outbox):
        folder.mkdir(exist_ok=True, mode=0o700)  # snapshots lie there for a while
    flags = [part for flag in node.flags for part in ("--set", flag)]
    settings = node.config.daemon
    intake = Intake(
        spool=node.spool,
        locks=node.paths.locks,
        work=node.paths.work,
        worker_argv=[sys.executable, "-m", "agent", *flags, "worker"],
        environment=_worker_environment(),
        timeout_s=lambda operation: node.config.snapshot.timeout_s,
        parked_interval_s=settings.parked_interval_s,
    )
    log_path = Path(node.config.log.path)
    return Daemon(
        spool_=node.spool,
        lock_path=node.paths.daemon_lock,
        intake=intake,
        notifier=Notifier(os.environ),
        timing=Timing(settings.scan_interval_s, settings.stop_timeout_s),
        housekeeping=Housekeeping(
            spool=node.spool, locks=node.paths.locks, kept_s=settings.results_kept_days * 86400.0
        ),
        schedules=[
            OutboxSchedule(node.spool, lambda: outbox.count(node.paths.outbox), node.config.outbox.retry_interval_s),
            *([LookSchedule(node.spool, node.look_op_id)] if node.config.snapshot.schedule else []),
        ],
        rotate_log=lambda: logs.rotate(log_path, max_size_bytes=node.config.log.max_size_bytes),
    )


def fingerprints(node: Node) -> dict[str, str]:
    """SHA-256 of what a restored cluster also needs and we never store."""
    from agent.platforms import fingerprints

    with contextlib.suppress(ConfigError):  # what is wrong with the configuration is the operation's result
        return fingerprints.of(node.resolved, node.paths.root)
    return {}


def _worker_environment() -> dict[str, str]:
    """The daemon's own, less what only the daemon may tell systemd."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    environment.pop("WATCHDOG_PID", None)
    return environment
