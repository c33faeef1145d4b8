"""Manifests and verification records as a store may hold them: each a backup or told as damaged, none wrongly good."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.adapters.directory import DirectoryStore
from agent.domain import snapshot
from agent.domain.snapshot import Backup
from agent.domain.soundness import why_not_good
from agent.errors import AgentError, SnapshotInvalid, StoreError
from agent.operations import catalogue
from tests.fuzz import command, odd
from tests.fuzz.requests import clear
from tests.fuzz.target import Check, Target

CLUSTER = "prod"
IDS = ("20260131T120000Z-0123abcd", "20260201T120000Z-0123abcd")
GOOD = {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": "passed"}
BAD = GOOD | {"fresh": "skipped"}


def manifest(identifier: str, retention_class: str, outcomes: dict[str, str]) -> dict[str, Any]:
    """A whole manifest as JSON has it."""
    checked_at = "2026-01-31T12:00:00Z"
    return {
        "snapshot_id": identifier, "retention_class": retention_class, "cluster": CLUSTER,
        "etcd_cluster_id": "8ac26f6ed1f4f4a5", "member_id": "f40a57ab708ca2a0", "node": "node-1",
        "instance_id": "i-0123456789abcdef0", "etcd_version": "3.5.16", "tool": "etcdutl 3.5.16", "revision": 21,
        "hash": 2**32 - 1, "total_key": 26, "live_keys": 7, "raw_size_bytes": 24608, "raw_sha256": "a" * 64,
        "data": {"key": f"{retention_class}/data/{CLUSTER}/{identifier}-0a1b2c3d.db.zst", "size_bytes": 900,
                 "sha256": "b" * 64, "version_id": "v1", "compression": "zstd"},
        "checks": [{"level": level, "outcome": outcome, "checked_at": checked_at, "note": "sole_voter"}
                   for level, outcome in outcomes.items()],
        "fingerprints": {"etcd_ca": "c" * 64}, "requested_at": checked_at, "started_at": checked_at,
        "finished_at": checked_at, "trace_id": "1" * 32, "op_id": "snapshot-1111", "agent_version": "1.0", "schema": 1,
    }  # fmt: skip


def record(identifier: str, outcome: str) -> dict[str, Any]:
    """A later verification as JSON has it."""
    moment = "2026-02-01T12:00:00Z"
    return {
        "snapshot_id": identifier, "level": "structure", "checked_at": moment, "node": "node-2", "trace_id": "2" * 32,
        "checks": [{"level": "structure", "outcome": outcome, "checked_at": moment}], "op_id": "verify-2222",
        "message": "" if outcome == "passed" else "trailer differs", "schema": 1,
    }  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """A file of the store, and whether it is as it was written."""

    key: str
    content: bytes
    identifier: str
    is_record: bool
    whole: bool


@dataclass(frozen=True)
class Listing:
    """What a store holds; for some cases the commands print it too."""

    kept: Sequence[Kept]
    odd_keys: Sequence[str]
    by_command: bool


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    """One or two backups with records, at least one of the files hurt; and files that belong to nobody."""
    kept = []
    for identifier in IDS[: draw(st.integers(1, 2))]:
        retention_class = draw(st.sampled_from(snapshot.RETENTION_CLASSES))
        folder = f"{retention_class}/manifest/{CLUSTER}/{identifier}"
        made = manifest(identifier, retention_class, draw(st.sampled_from([GOOD, GOOD, BAD])))
        kept.append(draw(hurt_file(f"{folder}.json", made, identifier, is_record=False)))
        if draw(st.booleans()):
            made = record(identifier, draw(st.sampled_from(["passed", "failed"])))
            key = f"{folder}.verified-20260201T120000Z-structure.json"
            kept.append(draw(hurt_file(key, made, identifier, is_record=True)))
    names = st.one_of(odd.texts_near(f"{IDS[0]}.json", f"{IDS[0]}.verified-20260201T120000Z-drill.json"), odd.odd_texts)
    odd_keys = [f"hourly/manifest/{CLUSTER}/{odd.as_os_text(name)}" for name in draw(st.lists(names, max_size=1))]
    return Listing(kept, odd_keys, draw(st.integers(0, 24)) == 0)


@st.composite
def hurt_file(draw: st.DrawFn, key: str, document: dict[str, Any], identifier: str, *, is_record: bool) -> Kept:
    """As it was written, or changed."""
    whole = json.dumps(document).encode()
    content = draw(st.one_of(st.just(whole), odd.documents(document, 2), odd.documents(document, 2)))
    return Kept(key, content, identifier, is_record, content == whole)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    place = folder / "var/lib/etcd-agent/snapshots"
    place.mkdir(parents=True)
    store = DirectoryStore(place)

    def check(case: Listing) -> None:
        try:
            for one in case.kept:
                _put(place / one.key, one.content)
            for key in case.odd_keys:
                with contextlib.suppress(OSError):  # a name that no folder can have
                    _put(place / key, b"{}")
            try:
                _require_listed(store, case)
            except StoreError:
                assert case.odd_keys, "what lies there is a listing"
            if case.by_command:
                _require_printed(folder)
        finally:
            clear(place)

    yield check


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(path):
        path.write_bytes(content)


def _require_listed(store: DirectoryStore, case: Listing) -> None:
    damaged: list[SnapshotInvalid] = []
    found = catalogue.backups(store, CLUSTER, damaged=damaged)
    by_id = {backup.manifest.snapshot_id: backup for backup in found}
    told = " ".join(error.message for error in damaged)
    for one in case.kept:
        assert (one.identifier in by_id) or one.identifier in told, f"{one.key} is neither listed nor told as damaged"
        if not one.whole:
            continue
        others = [other for other in case.kept if other.identifier == one.identifier]
        if all(other.whole for other in others) and not any(one.identifier in key for key in case.odd_keys):
            assert by_id[one.identifier].is_good == (b"skipped" not in others[0].content and not any(
                other.is_record and b'"failed"' in other.content for other in others))  # fmt: skip
    for backup in found:
        _require_rightly_good(backup)
    newest = catalogue.newest_good(store, CLUSTER, damaged=[])
    latest = snapshot.latest_good(found)
    assert (newest and newest.manifest) == (latest and latest.manifest)
    for identifier in (*IDS, "latest"):
        with contextlib.suppress(AgentError):
            catalogue.resolve(store, CLUSTER, identifier)


def _require_rightly_good(backup: Backup) -> None:
    """Good means that every check that counts says so, and none of them the contrary."""
    assert backup.is_good == (not why_not_good(backup))
    assert snapshot.decode_manifest(snapshot.encode(backup.manifest), _key(backup)) == backup.manifest
    if backup.is_good:
        for level in ("trailer", "structure", "fresh", "stored"):
            outcomes = {check.outcome for check in backup.manifest.checks if check.level == level}
            assert outcomes, f"good without {level}"
            assert outcomes <= {"passed", *(["unavailable"] if level == "stored" else [])}, (level, outcomes)
        assert all(one.passed and one.checks for one in backup.verifications)
        assert backup.manifest.raw_size_bytes >= 0


def _key(backup: Backup) -> str:
    manifest_ = backup.manifest
    return snapshot.manifest_key(manifest_.retention_class, manifest_.cluster, manifest_.snapshot_id)


def _require_printed(folder: Path) -> None:
    environment = {"ETCD_AGENT_ROOT": str(folder), "ETCD_AGENT_CLUSTER": CLUSTER}
    for words in (["snapshot", "list"], ["snapshot", "list", "--json"], ["snapshot", "show", IDS[0]],
                  ["snapshot", "show", "latest", "--json"], ["snapshot", "verify", "latest", "--dry-run"]):  # fmt: skip
        command.require_in_order(command.run(words, environment), words)


TARGETS = (Target("store", "manifests and verification records in a store", 6, listings(), opened),)
