"""The one wiring place: builds the parts out of the configuration. Imports what is heavy only where it is needed."""

import contextlib
import os
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import __version__, logs
from agent.adapters import files
from agent.config import EtcdConfig, Paths
from agent.domain.root_request import COPY_TOOLS
from agent.errors import ConfigError
from agent.node import Node, load_node

if TYPE_CHECKING:
    from agent.adapters.etcd_tools import EtcdTools
    from agent.daemon import Daemon
    from agent.operations.content import ContentPorts
    from agent.operations.prune import PrunePorts
    from agent.operations.room import Disks
    from agent.operations.slot_view import SchedulePorts
    from agent.operations.snapshot import SnapshotPorts
    from agent.operations.steps import Steps
    from agent.ports import Eraser, Etcd, EtcdKeys, Outbox, SnapshotTool, Store
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


def make_snapshot_ports(node: Node) -> "SnapshotPorts":
    """etcd, the snapshot tool and the store of this node."""
    from agent.operations.compression import Effort
    from agent.operations.snapshot import SnapshotPorts

    tool, settings = make_snapshot_tool(node), node.config.snapshot
    effort = Effort(settings.zstd_level, settings.zstd_threads)
    at = partial(make_etcd, node) if settings.source == "auto" else None
    return SnapshotPorts(
        make_etcd(node), tool, make_store(node), files.free_bytes, make_outbox(node), effort, at, make_disks(node),
        _upload_limit(node),
    )  # fmt: skip


def make_disks(node: Node) -> "Disks":
    """Where etcd's data and ours lie, and what stays free for etcd."""
    from agent.operations.room import Disks

    store, floor_bytes = node.config.store, node.config.snapshot.etcd_disk_floor_bytes
    of_store = Path(store.path) if store.kind == "directory" else None
    return Disks(files.device, Path(node.etcd.data_dir), node.paths.outbox, of_store, floor_bytes)


def make_snapshot_tool(node: Node) -> "SnapshotTool":
    """What reads snapshot files here."""
    from agent.adapters.etcdutl import SnapshotStatus

    return SnapshotStatus(node.etcd.tools_dir, make_tools(node).find)


def make_content_ports(node: Node) -> "ContentPorts":
    """etcd and the doors to its other members, the store, and what a hash may cost a member."""
    from agent.adapters.etcdutl import SnapshotStatus
    from agent.operations.content import ContentPorts

    settings, tool = node.config.verify, SnapshotStatus(node.etcd.tools_dir, make_tools(node).find)
    return ContentPorts(
        make_etcd(node), partial(make_etcd, node), tool, make_store(node), files.free_bytes,
        settings.content_max_db_bytes, settings.content_timeout_s, make_disks(node),
    )  # fmt: skip


def make_etcd(node: Node, endpoint: str = "") -> "Etcd":
    """The local member, or with the same certificates the one at another endpoint."""
    import msgspec

    from agent.adapters.etcdctl import Etcdctl

    settings = node.etcd
    settings = msgspec.structs.replace(settings, endpoints=(endpoint,)) if endpoint else settings
    return Etcdctl(settings, make_tools(node).find)


def make_keys(node: Node) -> "EtcdKeys":
    """Our keys in etcd, through the local member."""
    from agent.adapters.etcdctl_keys import EtcdctlKeys

    return EtcdctlKeys(node.etcd, make_tools(node).find)


def make_tools(node: Node) -> "EtcdTools":
    """Where this node's etcdctl and etcdutl are: one for the whole process, since a missing copy is asked for once."""
    return _tools(node.etcd.tools_dir, node.paths)


@cache
def _tools(tools_dir: str, paths: Paths) -> "EtcdTools":
    from agent.adapters.etcd_tools import EtcdTools
    from agent.adapters.root_service import RootServiceDoor

    return EtcdTools(tools_dir, paths.tools, lambda: RootServiceDoor(paths.spool).ask(COPY_TOOLS))


def make_root_service(flags: Sequence[str], paths: Paths) -> "RootService":
    """What serves `spool/root/` as root. It reads the configuration for each request: a bad one is the answer."""
    from agent.privileged.copy_tools import copy_tools
    from agent.privileged.service import RootService
    from agent.privileged.trusted import require_trusted

    def configured() -> EtcdConfig:
        require_trusted(paths.config_file)
        return load_node(flags).etcd

    return RootService(paths.state, {COPY_TOOLS: lambda tools: copy_tools(configured(), tools)})


def make_store(node: Node) -> "Store":
    """The configured store."""
    store = node.config.store
    if store.kind == "directory":
        from agent.adapters.directory import DirectoryStore

        return DirectoryStore(Path(store.path))
    from agent.adapters.aws import AwsClient
    from agent.adapters.s3 import S3Store

    client = AwsClient(
        "s3",
        region=store.region,
        endpoint_url=store.endpoint_url,
        own_retries=True,
        read_timeout_s=store.call_timeout_s,
    )
    return S3Store(store, client=client, state_folder=node.paths.work, cluster=node.config.cluster)


def _upload_limit(node: Node) -> int:
    """Bytes per second, 0 for no limit: a folder is not at the other end of a link."""
    store = node.config.store
    return store.upload_limit_bytes_per_s if store.kind == "s3" else 0


def make_outbox(node: Node) -> "Outbox":
    """The folder of what the store did not take yet."""
    from agent.adapters.outbox import OutboxFolder
    from agent.domain.outbox import Bounds

    settings = node.config.outbox
    return OutboxFolder(node.paths.outbox, Bounds(settings.most_count, settings.most_bytes))


def make_prune_ports(node: Node, store: "Store") -> "PrunePorts":
    """The store, the right to remove from it as far as this process's credentials go, and the configured rules."""
    from datetime import timedelta

    from agent.domain.retention import ClassRule
    from agent.domain.snapshot import RETENTION_CLASSES
    from agent.operations.prune import PrunePorts

    settings = node.config.retention
    rules = {
        name: ClassRule(getattr(settings, f"{name}_count"), timedelta(days=getattr(settings, f"{name}_least_days")))
        for name in RETENTION_CLASSES
    }
    return PrunePorts(store, _make_eraser(node), rules)


def _make_eraser(node: Node) -> "Eraser":
    settings = node.config.store
    if settings.kind == "directory":
        from agent.adapters.directory_eraser import DirectoryEraser

        return DirectoryEraser(Path(settings.path))
    from agent.adapters.aws import AwsClient
    from agent.adapters.s3_eraser import S3Eraser

    return S3Eraser(
        settings, client=AwsClient("s3", region=settings.region, endpoint_url=settings.endpoint_url, own_retries=True)
    )


def make_schedule_ports(node: Node, steps: "Steps") -> "SchedulePorts":
    """What a look at the schedule needs. A store in a folder is each node's own."""
    from agent.adapters.spool_own import OwnRequests
    from agent.domain.slots import Rhythm
    from agent.operations import tools as etcd_tools
    from agent.operations.slot_view import SchedulePorts

    tools, settings = make_tools(node), node.config.snapshot
    return SchedulePorts(
        etcd=make_etcd(node),
        keys=make_keys(node),
        store=make_store(node),
        outbox=make_outbox(node),
        own=OwnRequests(node.spool),
        rhythm=Rhythm(settings.max_age_s, settings.timeout_s),
        shared=node.config.store.kind != "directory",
        prepare=lambda: etcd_tools.prepare(make_etcd(node), tools, steps),
    )


def make_worker(node: Node) -> "Worker":
    """What runs one operation in this process."""
    from agent.adapters import process, process_priority
    from agent.domain.request import Record
    from agent.operations import content, leftovers, outbox, prune, schedule, scheduled, snapshot, verify
    from agent.operations import tools as etcd_tools
    from agent.operations.outbox import ShipPorts
    from agent.operations.steps import Job, Operation, Run, Steps
    from agent.worker import Worker

    # Each operation makes its own ports: what is wrong with the configuration becomes its result, not a crash.
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

    def with_tools(operation: Run) -> Run:
        def run(job: Job, steps: Steps) -> dict[str, Any]:
            etcd_tools.prepare(make_etcd(node), make_tools(node), steps)
            return operation(job, steps)

        return run

    def run_verify(job: Job, steps: Steps) -> dict[str, Any]:
        if job.request.params.get("level") == content.LEVEL:
            return content.run(job, make_content_ports(node), steps)
        return verify.run(job, make_snapshot_ports(node), steps)

    def run_snapshot(job: Job, steps: Steps) -> dict[str, Any]:
        def take() -> dict[str, Any]:
            return snapshot.run(job, make_snapshot_ports(node), steps)

        if job.request.params.get("scheduled") == "true":
            return scheduled.run(job, make_schedule_ports(node, steps), steps, take)
        return take()

    operations = {
        "snapshot": Operation(
            run=with_tools(run_snapshot),
            farewell=lambda job, steps: leftovers.give_uploads_up(job, lambda: make_store(node)),
        ),
        "verify": Operation(with_tools(run_verify)),
        "outbox": Operation(
            run=lambda job, steps: outbox.run(
                job, ShipPorts(make_store(node), make_outbox(node), _upload_limit(node)), steps
            ),
            farewell=lambda job, steps: leftovers.give_uploads_up(job, lambda: make_store(node)),
        ),
        "schedule": Operation(lambda job, steps: schedule.run(job, make_schedule_ports(node, steps), steps)),
        "prune": Operation(lambda job, steps: prune.run(job, make_prune_ports(node, make_store(node)), steps)),
    }
    return Worker(
        node.spool, node.paths.locks, node.paths.work, operations, make_job, node.config.daemon.parked_interval_s,
        lambda: process_priority.lower(node.config.snapshot.nice, node.config.snapshot.io_class),
    )  # fmt: skip


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
