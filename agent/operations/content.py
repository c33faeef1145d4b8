"""Verifying a snapshot's content: HashKV at its revision, compared with a member that it was not taken from.

From etcd 3.6 on the stored file itself is hashed. Below, no tool hashes a file: the member that it was taken from and
another one are compared at the file's revision, and the record says so.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from agent.domain import content_check, content_claim
from agent.domain.cluster import Finding, hex_id, needed_disk_bytes
from agent.domain.content_check import NOT_COMPARABLE, Asked, Plan, not_comparable
from agent.domain.content_claim import Claim
from agent.domain.etcd_tools import same_minor
from agent.domain.hash_kv import Compared, Hashed, compare
from agent.domain.request import format_moment
from agent.domain.snapshot import Check, Manifest, Verification
from agent.errors import BadInput, ContentDiffers, EtcdAnswerInvalid, Refused
from agent.logs import emit
from agent.operations import catalogue, cluster_view, leftovers, records, retrieval
from agent.operations.room import Disks, Room
from agent.operations.steps import Job, Steps
from agent.ports import Etcd, HashTool, Store

LEVEL: Literal["content"] = "content"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContentPorts:
    """What the check needs of the outside. `at` is the door to the member at a URL; one hash may take `timeout_s`."""

    etcd: Etcd
    at: Callable[[str], Etcd]
    tool: HashTool
    store: Store
    free_bytes: Callable[[Path], int]
    max_db_bytes: int
    timeout_s: float
    disks: Disks | None = None


def run(job: Job, ports: ContentPorts, steps: Steps) -> dict[str, Any]:
    """Compares one snapshot and records what came of it.

    Raises ContentDiffers, and Refused: where the cluster can not spare a member now, nothing is asked and nothing
    recorded; what can not be compared is recorded as that.
    """
    leftovers.remove_files(job.work_root, job.folder, job.hold)
    with steps.step("find"):
        manifest = chosen(job, ports)
    try:
        compared = _compared(job, ports, manifest, steps)
    except Refused as refusal:
        if refusal.rule == NOT_COMPARABLE:
            with steps.step("record"):
                _record(job, ports, manifest, Compared("not_comparable", refusal.message))
        raise
    with steps.step("record"):
        _record(job, ports, manifest, compared)
    if compared.outcome == "not_comparable":
        _refuse(not_comparable(compared.note))
    if compared.outcome == "failed":
        raise ContentDiffers(
            f"{manifest.snapshot_id}: {compared.note}",
            hint="it is not counted as good any more. Find the member that is wrong before anything is restored or "
            "replaced: `etcdctl endpoint hashkv --cluster --rev=…` on a quiet hour, then replace that one",
        )
    return {
        "snapshot_id": manifest.snapshot_id, "level": LEVEL, "outcome": compared.outcome, "compared": compared.note,
        "revision": manifest.revision, "store": ports.store.describe(),
    }  # fmt: skip


def chosen(job: Job, ports: ContentPorts) -> Manifest:
    """The one snapshot that is meant. Raises BadInput, SnapshotNotFound."""
    wanted = job.request.params["id"]
    if wanted == "all":
        raise BadInput("level content is for one snapshot: a member stalls for each", hint="name an id, or `latest`")
    return catalogue.resolve(ports.store, job.cluster, wanted).manifest


def plan(job: Job, ports: ContentPorts, manifest: Manifest) -> Plan:
    """Who would be asked now. Raises Refused, EtcdError."""
    own = ports.etcd.status()
    made = content_check.plan(cluster_view.look(ports.etcd, own, ports.at), manifest, max_db_bytes=ports.max_db_bytes)
    if isinstance(made, Finding):
        _refuse(made)
    return made


def require_apart(job: Job, ports: ContentPorts) -> None:
    """Raises Refused when another operation asked a member less than a day ago."""
    now = datetime.now(UTC)
    keys = content_claim.recent(ports.store.keys(content_claim.folder(job.cluster)), now)
    claims = [content_claim.decode(ports.store.read(key), key) for key in keys]
    finding = content_claim.too_soon(claims, job.request.op_id, now, forced=_is_forced(job))
    if finding is not None:
        _refuse(finding)


def _compared(job: Job, ports: ContentPorts, manifest: Manifest, steps: Steps) -> Compared:
    with steps.step("plan"):
        made = plan(job, ports, manifest)
        require_apart(job, ports)
        if made.kind == "members":
            _require_uncompacted(ports, manifest.revision)
    hashed = []
    if made.kind == "file":
        hashed.append(_of_file(job, ports, manifest, steps))
    with steps.step("claim"):
        _claim(job, ports)
    for number in range(len(made.asked)):
        with steps.step("ask"):
            # Looked at anew each time: minutes may have gone by, and the hash before was a stall itself.
            asked = plan(job, ports, manifest).asked[number]
            hashed.append(_of_member(job, ports, asked, manifest.revision))
    one, other = hashed
    return compare(one, other, manifest.revision)


def _of_file(job: Job, ports: ContentPorts, manifest: Manifest, steps: Steps) -> Hashed:
    """Reads the file back out of the store, which is the copy that the tool may write into."""
    program, _, version = ports.tool.describe().partition(" ")
    if program != "etcdutl":
        _refuse(not_comparable(f"only etcdutl hashes a file, and here is {program} alone", "install etcdutl"))
    if not same_minor(version, manifest.etcd_version):
        why = f"it is of etcd {manifest.etcd_version}, etcdutl here is {version}"
        _refuse(not_comparable(why, "install the etcdutl of etcd's version"))
    path, needed = job.folder / f"{manifest.snapshot_id}.db", needed_disk_bytes(manifest.raw_size_bytes)
    room = Room(ports.free_bytes, disks=ports.disks)
    room.require(job.folder, needed, manifest.snapshot_id, hint="make room on that disk, or verify on another node")
    try:
        with steps.step("download"), path.open("wb") as target:
            job.require_time()
            for chunk in retrieval.raw_chunks(ports.store, manifest):
                target.write(chunk)
                steps.progress(target.tell(), manifest.raw_size_bytes)
        with steps.step("hash"):
            answer = ports.tool.hash_kv(path, manifest.revision)
            _require_uncompacted(ports, answer.compact_revision)
    finally:
        path.unlink(missing_ok=True)
    return Hashed("the stored file", version, answer)


def _require_uncompacted(ports: ContentPorts, revision: int) -> None:
    """Spares a member the stall where a compaction since then makes its answer useless. Raises Refused."""
    if ports.etcd.count_keys(max(revision, 1)) is None:
        _refuse(not_comparable(f"the cluster was compacted since: revision {revision} is gone"))


def _claim(job: Job, ports: ContentPorts) -> None:
    """From here on a member may be asked, and by this operation alone."""
    op_id, now = job.request.op_id, datetime.now(UTC)
    key = content_claim.key(job.cluster, now, forced_op_id=op_id if _is_forced(job) else "")
    claim = Claim(op_id, format_moment(now))
    metadata = {"trace-id": job.request.trace_id, "op-id": op_id, "cluster": job.cluster}
    ports.store.put_if_absent(key, content_claim.encode(claim), metadata=metadata)
    # Whose claim has the name of this day shows here: only an earlier attempt of this operation may go on under it.
    # Also who claimed just before midnight, under another name.
    require_apart(job, ports)


def _of_member(job: Job, ports: ContentPorts, asked: Asked, revision: int) -> Hashed:
    status, timeout_s = asked.status, min(ports.timeout_s, job.require_time())
    emit(
        log, logging.INFO, "content.asked", f"{asked.name} hashes {status.db_size_bytes:,} bytes; its writes wait",
        member_id=hex_id(asked.member.member_id), revision=revision, db_size_bytes=status.db_size_bytes,
    )  # fmt: skip
    answer = ports.at(status.endpoint).hash_kv(revision, timeout_s=timeout_s)
    if answer is None:
        _refuse(not_comparable(f"{asked.name} was compacted since: revision {revision} is gone"))
    if answer.member_id != asked.member.member_id:
        raise EtcdAnswerInvalid(
            f"{status.endpoint} answered as member {hex_id(answer.member_id)}, not as {asked.name}",
            hint="correct the client URLs that this member advertises: `etcdctl member list`",
        )
    return Hashed(asked.name, status.version, answer)


def _record(job: Job, ports: ContentPorts, manifest: Manifest, compared: Compared) -> None:
    now = datetime.now(UTC)
    check = Check(LEVEL, compared.outcome, format_moment(now), compared.note)
    record = Verification(
        snapshot_id=manifest.snapshot_id, level=LEVEL, checks=(check,), checked_at=format_moment(now), node=job.node,
        trace_id=job.request.trace_id, op_id=job.request.op_id,
        message="" if compared.outcome == "passed" else compared.note,
    )  # fmt: skip
    records.write(ports.store, manifest, record, now)
    level, event = (
        (logging.INFO, "content.equal") if compared.outcome == "passed"
        else (logging.ERROR, "content.differs") if compared.outcome == "failed"
        else (logging.WARNING, "content.not_comparable")
    )  # fmt: skip
    emit(log, level, event, f"{manifest.snapshot_id}: {compared.note}",
         snapshot_id=manifest.snapshot_id, revision=manifest.revision)  # fmt: skip


def _is_forced(job: Job) -> bool:
    return job.request.params.get("force") == "true"


def _refuse(finding: Finding) -> NoReturn:
    raise Refused(finding.message, rule=finding.rule, hint=finding.hint)
