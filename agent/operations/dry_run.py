"""What an operation would do now, by the same rules that it will run under, changing nothing."""

from typing import Any

from agent.domain import cluster
from agent.errors import NoSpace, SnapshotInvalid
from agent.operations import catalogue, committing, content
from agent.operations import source as sources
from agent.operations.content import ContentPorts
from agent.operations.snapshot import STORE_TROUBLE, SnapshotPorts, require_room
from agent.operations.steps import Job

SNAPSHOT_STEPS = ("preflight", "save", "verify", "store", "manifest")
VERIFY_STEPS = ("find", "download", "verify", "record")
CONTENT_STEPS = {
    "file": ("find", "plan", "download", "hash", "claim", "ask", "record"),
    "members": ("find", "plan", "claim", "ask", "record"),
}


def plan_snapshot(job: Job, ports: SnapshotPorts) -> dict[str, Any]:
    """The source, the class and the place of the snapshot that would be taken. Raises what the operation would."""
    emergency = job.request.params.get("emergency") == "true"
    source = sources.find(ports.etcd, emergency=emergency, at=ports.at)
    require_room(job, ports, source, may_drop=False)
    tool = ports.tool.describe()
    status = source.status
    return {
        "steps": list(SNAPSHOT_STEPS),
        "endpoint": status.endpoint,
        "member_id": cluster.hex_id(status.member_id),
        "member_name": source.name,
        "source": source.why,
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


def plan_content(job: Job, ports: ContentPorts) -> dict[str, Any]:
    """What would be compared, and whose writes would wait. Raises what the operation would before it asks."""
    manifest = content.chosen(job, ports)
    made = content.plan(job, ports, manifest)
    content.require_apart(job, ports)
    return {
        "steps": list(CONTENT_STEPS[made.kind]),
        "snapshot": manifest.snapshot_id,
        "revision": manifest.revision,
        "compares": "the stored file and a member" if made.kind == "file" else "two members, not the file",
        "asks": [asked.name for asked in made.asked],
        "stalls_db_bytes": max(asked.status.db_size_bytes for asked in made.asked),
        "timeout_s": ports.timeout_s,
        "store": ports.store.describe(),
        "tool": ports.tool.describe(),
    }
