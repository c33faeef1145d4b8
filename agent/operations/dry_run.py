"""What an operation would do now, by the same rules that it will run under, changing nothing."""

from typing import Any

from agent.domain import cluster
from agent.errors import NoSpace, SnapshotInvalid
from agent.operations import catalogue, committing
from agent.operations import source as sources
from agent.operations.snapshot import STORE_TROUBLE, SnapshotPorts
from agent.operations.steps import Job

SNAPSHOT_STEPS = ("preflight", "save", "verify", "store", "manifest")
VERIFY_STEPS = ("find", "download", "verify", "record")


def plan_snapshot(job: Job, ports: SnapshotPorts) -> dict[str, Any]:
    """The source, the class and the place of the snapshot that would be taken. Raises what the operation would."""
    emergency = job.request.params.get("emergency") == "true"
    source = sources.find(job, ports.etcd, ports.free_bytes, emergency=emergency)
    tool = ports.tool.describe()
    status = source.status
    return {
        "steps": list(SNAPSHOT_STEPS),
        "endpoint": status.endpoint,
        "member_id": cluster.hex_id(status.member_id),
        "etcd_version": status.version,
        "db_size_bytes": status.db_size_bytes,
        "least_revision": source.least_revision,
        "freshness": source.note,
        "free_bytes": ports.free_bytes(job.folder),
        "needed_bytes": cluster.needed_disk_bytes(status.db_size_bytes),
        **_class(job, ports, emergency=emergency),
        "store": ports.store.describe(),
        "tool": tool,
    }


def _class(job: Job, ports: SnapshotPorts, *, emergency: bool) -> dict[str, Any]:
    """The class, or what the store has against it: then the snapshot would be kept on the node."""
    damaged: list[SnapshotInvalid] = []
    try:
        wanted = committing.wanted_class(job, ports.store, damaged=damaged)
    except STORE_TROUBLE as why:
        return {
            "stored": False,
            "why_not_stored": f"{why.message}; it would stay in the outbox until the store takes it",
        }
    return {"retention_class": "emergency" if emergency else wanted, "stored": True}


def plan_verify(job: Job, ports: SnapshotPorts) -> dict[str, Any]:
    """The snapshots that would be verified, one after the other. Raises what the operation would."""
    wanted = job.request.params["id"]
    damaged: list[SnapshotInvalid] = []
    chosen = (
        catalogue.backups(ports.store, job.cluster, damaged=damaged)
        if wanted == "all"
        else [catalogue.resolve(ports.store, job.cluster, wanted)]
    )
    largest_bytes = max((backup.manifest.raw_size_bytes for backup in chosen), default=0)
    free_bytes = ports.free_bytes(job.folder)
    if free_bytes < largest_bytes:
        raise NoSpace(
            f"{job.folder} has {free_bytes:,} bytes free, the largest snapshot needs {largest_bytes:,}",
            hint="make room on that disk, or verify on another node",
        )
    return {
        "steps": list(VERIFY_STEPS),
        "snapshots": [backup.manifest.snapshot_id for backup in chosen],
        "damaged_manifests": [error.message for error in damaged],
        "download_bytes": sum(backup.manifest.data.size_bytes for backup in chosen),
        "free_bytes": free_bytes,
        "needed_bytes": largest_bytes,
        "store": ports.store.describe(),
        "tool": ports.tool.describe(),
    }
