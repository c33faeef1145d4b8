"""What is looked at after a fault: what lies in the store and the outbox, what the agent lists, and what comes back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos import invariants
from tests.chaos.invariants import Stored
from tests.chaos.snapshot_cases import Case
from tests.chaos.snapshot_place import SnapshotNode

# From here on the data may be in the store before the manifest is: a crash or a refusal leaves data that no manifest
# names, which are no backup (ARCHITECTURE, "What a crash leaves"). A bucket gives nothing back.
AFTER_THE_DATA_IN_S3 = frozenset({"complete", "head", "manifest"})
# A read of the class comes before, one of the manifest after: its position does not say which one was met.
MAYBE_AFTER_THE_DATA_IN_S3 = frozenset({"read", "class"})
AFTER_THE_DATA_IN_FOLDER = frozenset({"data@named", "manifest@begin", "manifest@synced"})


@dataclass(frozen=True)
class Kept:
    """A snapshot in the outbox, by its draft: what has to be in the store in the end."""

    snapshot_id: str
    raw_sha256: str
    revision: int


def kept(node: SnapshotNode) -> list[Kept]:
    """What the outbox holds that counts."""
    drafts = [json.loads(path.read_bytes())["manifest"] for path in node.outbox()]
    return [Kept(one["snapshot_id"], one["raw_sha256"], one["revision"]) for one in drafts]


def problems_at_once(node: SnapshotNode, op_id: str) -> list[str]:
    """What must hold in the midst of it too, as soon as the operation came to an end: nothing partial is listed."""
    found = invariants.stored(node)
    told = invariants.problems_of_store(found)
    mine = manifests_of(found, op_id)
    if len(mine) > 1:
        told.append(f"{len(mine)} manifests for one operation: {sorted(mine)}")
    output = answer_of(node, op_id)
    if output.get("stored") is True and not mine:
        told.append("lost: it was told as stored, and the store has no manifest of it")
    if (
        output.get("stored") is False
        and not mine
        and output["snapshot_id"] not in [one.snapshot_id for one in kept(node)]
    ):
        told.append("lost: it was told as kept, and neither outbox nor store has it")
    return told


def answer_of(node: SnapshotNode, op_id: str) -> Mapping[str, Any]:
    """The output of the operation's success; empty without one."""
    for state, record in invariants.ends_of(node, op_id):
        if state == "done":
            output: Mapping[str, Any] = record["results"][-1]["output"]
            return output
    return {}


def manifests_of(found: Stored, op_id: str) -> dict[str, dict[str, Any]]:
    """The manifests of one operation, by key."""
    return {key: one for key, one in found.manifests.items() if one["op_id"] == op_id}


def problems_of_kept(found: Stored, seen: Mapping[str, Kept]) -> list[str]:
    """What was kept at any time is in the store, the very bytes."""
    by_id = {one["snapshot_id"]: one for one in found.manifests.values()}
    told = []
    for snapshot_id, one in seen.items():
        manifest = by_id.get(snapshot_id)
        if manifest is None:
            told.append(f"lost: {snapshot_id} was kept and never came into the store")
        elif (manifest["raw_sha256"], manifest["revision"]) != (one.raw_sha256, one.revision):
            told.append(f"{snapshot_id} was kept and is stored with other bytes")
    return told


def problems_of_list(node: SnapshotNode, found: Stored) -> list[str]:
    """`snapshot list` shows exactly the manifests that lie there, all good, each once."""
    exit_code, output = node.command("snapshot", "list", "--json")
    if exit_code != 0:
        return [f"snapshot list exits with {exit_code}: {output[-500:]}"]
    document = json.loads(output[output.index("{") :])
    shown = sorted(one["snapshot_id"] for one in document["snapshots"])
    there = sorted(one["snapshot_id"] for one in found.manifests.values())
    told = [f"listed as damaged: {one['message']}" for one in document["damaged"]]
    told += [f"listed and not good: {one['why_not_good']}" for one in document["snapshots"] if not one["good"]]
    return told + ([f"listed are {shown}, there are {there}"] if shown != there else [])


def problems_of_download(node: SnapshotNode, found: Stored) -> list[str]:
    """Every manifest's data come back by `snapshot download`, all checks on, as the bytes that the manifest names."""
    told = []
    for manifest in found.manifests.values():
        target = node.folder / f"back-{manifest['snapshot_id']}.db"
        exit_code, output = node.command("snapshot", "download", manifest["snapshot_id"], str(target), "--json")
        if exit_code != 0:
            told.append(f"{manifest['snapshot_id']} does not come back, exit {exit_code}: {output[-500:]}")
            continue
        if hashlib.sha256(target.read_bytes()).hexdigest() != manifest["raw_sha256"]:
            told.append(f"{manifest['snapshot_id']} comes back as other bytes")
        target.unlink()
    return told


def most_unlisted(case: Case, hits: int, attempts: int) -> int:
    """How many data without a manifest ARCHITECTURE allows: of each attempt that was hit between the two, one.

    Shipping uses one key for the same bytes, so in a bucket it finds again what a former try stored.
    """
    if case.store == "directory":
        where = f"{case.stage.removeprefix('ship-')}@{case.position}"
        # A full disk takes its data back; one that refuses writes does not.
        at_risk = case.fault in ("kill-worker", "kill-daemon", "stall", "deny") and where in AFTER_THE_DATA_IN_FOLDER
        return min(hits, attempts) if at_risk else 0
    if case.is_shipping or case.stage not in AFTER_THE_DATA_IN_S3 | MAYBE_AFTER_THE_DATA_IN_S3:
        return 0
    return min(hits, attempts)
