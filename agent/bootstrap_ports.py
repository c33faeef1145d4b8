"""The ports of this node, built out of the configuration. What is heavy is imported only where it is needed."""

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters import files
from agent.config import Paths
from agent.domain.root_request import COPY_TOOLS
from agent.node import Node

if TYPE_CHECKING:
    from agent.adapters.etcd_tools import EtcdTools
    from agent.operations.content import ContentPorts
    from agent.operations.prune import PrunePorts
    from agent.operations.room import Disks
    from agent.operations.slot_view import SchedulePorts
    from agent.operations.snapshot import SnapshotPorts
    from agent.operations.steps import Steps
    from agent.ports import Eraser, Etcd, EtcdKeys, Outbox, SnapshotTool, Store


def make_snapshot_ports(node: Node) -> "SnapshotPorts":
    """etcd, the snapshot tool and the store of this node."""
    from agent.operations.compression import Effort
    from agent.operations.snapshot import SnapshotPorts

    tool, settings = make_snapshot_tool(node), node.config.snapshot
    effort = Effort(settings.zstd_level, settings.zstd_threads)
    at = partial(make_etcd, node) if settings.source == "auto" else None
    return SnapshotPorts(
        make_etcd(node), tool, make_store(node), files.free_bytes, make_outbox(node), effort, at, make_disks(node),
        upload_limit(node),
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


def upload_limit(node: Node) -> int:
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
