"""Snapshots as they are kept: names, manifests, what makes one good, and its retention class.

The manifest is the commit mark: a data object without one is not a backup and is never listed.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from agent.domain.request import SNAPSHOT_ID_PATTERN, parse_moment
from agent.errors import BadInput, SnapshotInvalid

RetentionClass = Literal["hourly", "daily", "weekly", "monthly", "emergency"]
RETENTION_CLASSES: tuple[RetentionClass, ...] = ("hourly", "daily", "weekly", "monthly", "emergency")
COMPRESSION_SUFFIX = ".db.zst"
OLDER_VERSIONS = "compare it with its older versions"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Level = Literal["trailer", "structure", "fresh", "stored", "content", "drill"]
Outcome = Literal["passed", "failed", "unavailable", "skipped", "not_comparable"]
_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_MANIFEST_NAME = re.compile(rf"({SNAPSHOT_ID_PATTERN})\.json\Z")
_DATA_KEY = re.compile(rf"([a-z]+)/data/([^/]+)/({SNAPSHOT_ID_PATTERN})-[0-9a-f]{{8}}\.db\.zst\Z")
_VERIFICATION_NAME = re.compile(rf"({SNAPSHOT_ID_PATTERN})\.verified-([0-9]{{8}}T[0-9]{{6}}Z)-([a-z]+)\.json\Z")


class Check(msgspec.Struct, frozen=True):
    """One level of verification: what was checked, when, with what outcome, and a note (`sole_voter`)."""

    level: Level
    outcome: Outcome
    checked_at: str
    note: str = ""


class StoredData(msgspec.Struct, frozen=True):
    """The object that holds the compressed snapshot."""

    key: str
    size_bytes: Count
    sha256: str
    version_id: str = ""
    compression: Literal["zstd"] = "zstd"


class Manifest(msgspec.Struct, frozen=True):
    """All that is known of one backup. Readers ignore fields of newer versions.

    `member_id`, `member_name` and `member_endpoint` are of the member it was read from, which may be another node's;
    `node` and `instance_id` are of the node whose agent took it. The name is "" where nobody was asked for it.
    """

    snapshot_id: str
    retention_class: RetentionClass
    cluster: str
    etcd_cluster_id: str
    member_id: str
    node: str
    instance_id: str
    etcd_version: str
    tool: str
    revision: Count
    hash: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    total_key: Count
    live_keys: Count | None
    raw_size_bytes: Count
    raw_sha256: str
    data: StoredData
    checks: tuple[Check, ...]
    fingerprints: dict[str, str]
    requested_at: str
    started_at: str
    finished_at: str
    trace_id: str
    op_id: str
    agent_version: str
    member_name: str = ""
    member_endpoint: str = ""
    schema: Literal[1] = 1


class Verification(msgspec.Struct, frozen=True):
    """The record of a later verification, a file of its own beside the manifest."""

    snapshot_id: str
    level: Literal["structure", "content", "drill"]
    checks: tuple[Check, ...]
    checked_at: str
    node: str
    trace_id: str
    op_id: str
    message: str = ""
    schema: Literal[1] = 1

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.outcome == "passed" for check in self.checks)

    @property
    def speaks_against(self) -> bool:
        """Whether the snapshot is not to be trusted any more; what could not be compared says nothing of it.

        Records only come together, none takes another one back: of two that disagree, the worse one counts.
        """
        outcomes = {check.outcome for check in self.checks}
        neutral = self.level == "content" and outcomes and outcomes <= {"passed", "not_comparable"}
        return not (self.passed or neutral)


@dataclass(frozen=True)
class Backup:
    """A manifest with the later verifications found beside it."""

    manifest: Manifest
    verifications: tuple[Verification, ...] = ()

    @property
    def is_good(self) -> bool:
        """Sound, and known to be fresh when it was taken."""
        outcomes = {check.level: check.outcome for check in self.manifest.checks}
        return self.is_sound and outcomes.get("fresh") == "passed"

    @property
    def is_sound(self) -> bool:
        """Its bytes were verified when it was made, and found neither damaged nor different since."""
        outcomes = {check.level: check.outcome for check in self.manifest.checks}
        return (
            all(outcomes.get(level) == "passed" for level in ("trailer", "structure"))
            and outcomes.get("stored") in ("passed", "unavailable")
            and not any(verification.speaks_against for verification in self.verifications)
        )


def snapshot_id(requested_at: str, op_id: str) -> str:
    """`<time>-<op8>`: from the request alone, so that an operation has one name whatever happens to its attempts."""
    return f"{compact(parse_moment(requested_at))}-{hashlib.sha256(op_id.encode()).hexdigest()[:8]}"


def compact(moment: datetime) -> str:
    """A UTC time as keys have it: 20260131T120000Z."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def data_key(retention_class: RetentionClass, cluster: str, identifier: str, try8: str) -> str:
    """Where an attempt's data goes, below the store's prefix."""
    return f"{data_folder(retention_class, cluster)}{identifier}-{try8}{COMPRESSION_SUFFIX}"


def data_folder(retention_class: RetentionClass, cluster: str) -> str:
    """Where the data of a class lie."""
    return f"{retention_class}/data/{cluster}/"


def manifest_folder(retention_class: RetentionClass, cluster: str) -> str:
    """The part of the store that is listed."""
    return f"{retention_class}/manifest/{cluster}/"


def manifest_key(retention_class: RetentionClass, cluster: str, identifier: str) -> str:
    """Where the commit mark goes."""
    return f"{manifest_folder(retention_class, cluster)}{identifier}.json"


def manifest_key_of_data(key: str) -> str:
    """The key of the manifest that would make those data a backup, "" where the key is none of data."""
    match = _DATA_KEY.fullmatch(key)
    return f"{match[1]}/manifest/{match[2]}/{match[3]}.json" if match else ""


def class_key(cluster: str, identifier: str) -> str:
    """Where the nodes that run one operation agree on its class: the first one says, the others follow."""
    return f"coordination/{cluster}/class/{identifier}"


def decode_class(content: bytes, key: str) -> RetentionClass:
    """Reads the class that was agreed on. Raises SnapshotInvalid when it is none."""
    for retention_class in RETENTION_CLASSES:
        if content == retention_class.encode():
            return retention_class
    raise SnapshotInvalid(f"{key} names no retention class: {content[:40]!r}", hint=OLDER_VERSIONS)


def verification_key(backup: Manifest, level: str, checked_at: datetime) -> str:
    """Where a later verification's record goes."""
    folder = manifest_folder(backup.retention_class, backup.cluster)
    return f"{folder}{backup.snapshot_id}.verified-{compact(checked_at)}-{level}.json"


def id_of_manifest_key(key: str) -> str | None:
    """The snapshot's id, if the key is a manifest's. An id of a time that does not exist is nobody's."""
    match = _MANIFEST_NAME.fullmatch(key.rpartition("/")[2])
    if match is None:
        return None
    try:
        moment_of_id(match[1])
    except ValueError:
        return None
    return match[1]


def moment_of_id(identifier: str) -> datetime:
    """The time of the request, as the id has it."""
    return datetime.strptime(identifier[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def id_of_verification_key(key: str) -> str | None:
    """The snapshot's id, if the key is a verification record's."""
    match = _VERIFICATION_NAME.fullmatch(key.rpartition("/")[2])
    return match[1] if match else None


def encode(document: Manifest | Verification) -> bytes:
    """The bytes of a manifest or a verification record: JSON a person can read."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode_manifest(content: bytes, key: str) -> Manifest:
    """Reads a manifest. Raises SnapshotInvalid when it is damaged or belongs under another name."""
    manifest = _decode(content, key, Manifest)
    if manifest_key(manifest.retention_class, manifest.cluster, manifest.snapshot_id) != key:
        raise SnapshotInvalid(f"the manifest at {key} names another snapshot, {manifest.snapshot_id}")
    data = data_key(manifest.retention_class, manifest.cluster, manifest.snapshot_id, "")
    name = re.escape(data.removesuffix(COMPRESSION_SUFFIX)) + "[0-9a-f]{8}" + re.escape(COMPRESSION_SUFFIX)
    if not re.fullmatch(name, manifest.data.key):
        raise SnapshotInvalid(f"the manifest at {key} names data that are not its own, {manifest.data.key[:200]!r}")
    if len({check.level for check in manifest.checks}) < len(manifest.checks):
        raise SnapshotInvalid(f"the manifest at {key} has two outcomes of one check", hint=OLDER_VERSIONS)
    try:
        for moment in (manifest.requested_at, manifest.started_at, manifest.finished_at):
            parse_moment(moment)
    except BadInput as error:
        raise SnapshotInvalid(f"the manifest at {key} can not be read: {error}", hint=OLDER_VERSIONS) from None
    return manifest


def decode_verification(content: bytes, key: str) -> Verification:
    """Reads a verification record. Raises SnapshotInvalid when it is damaged."""
    return _decode(content, key, Verification)


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    """Sorted by the time of their request."""
    return sorted(backups, key=lambda backup: backup.manifest.snapshot_id, reverse=True)


def latest_good(backups: Iterable[Backup]) -> Backup | None:
    """The newest backup that may be restored without a second thought."""
    return next((backup for backup in newest_first(backups) if backup.is_good), None)


def _decode(content: bytes, key: str, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotInvalid(f"{key} can not be read: {error}", hint=OLDER_VERSIONS) from None
