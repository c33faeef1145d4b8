"""What must hold after a case, looked at from outside: files, objects and processes, by none of the agent's code."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import killing
from tests.chaos.place import Node

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIVE = ("incoming", "waiting", "running", "progress", "cancel")
ENDS = ("done", "failed", "refused")
GOOD = {"trailer": {"passed"}, "structure": {"passed"}, "fresh": {"passed"}, "stored": {"passed", "unavailable"}}


@dataclass(frozen=True)
class Stored:
    """What lies in a store: manifests and data by key, and uploads that nobody ended."""

    objects: Mapping[str, bytes]
    uploads: Sequence[str]

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        return {
            key: json.loads(content)
            for key, content in self.objects.items()
            if "/manifest/" in key and ".verified-" not in key and not _is_hidden(key)
        }

    @property
    def unlisted(self) -> list[str]:
        """Data that no manifest names."""
        named = {manifest["data"]["key"] for manifest in self.manifests.values()}
        return [key for key in self.objects if "/data/" in key and key not in named and not _is_hidden(key)]


def stored(node: Node) -> Stored:
    """Everything in the node's store, hidden files too."""
    if node.store == "directory":
        folder = node.state / "snapshots"
        files = [path for path in folder.rglob("*") if path.is_file()]
        return Stored({path.relative_to(folder).as_posix(): path.read_bytes() for path in files}, ())
    client, bucket, prefix = node.world.s3_client, node.world.s3.bucket, f"{node.prefix}/"
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    objects = {
        key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in (entry["Key"] for entry in listed)
        if "/coordination/" not in key  # of the probes one is wrong on purpose, and some servers keep it
    }
    uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", ())
    return Stored(objects, [upload["Key"] for upload in uploads])


def _is_hidden(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".")


def left_over(node: Node) -> list[str]:
    """What work left on the node that is not there when all of it has ended; locks and ends are no leftovers."""
    found = [path for state in LIVE for path in node.spool(state)]
    found += [path for path in node.state.rglob("*") if path.name.endswith((".part", ".tmp"))]
    work = node.state / "work"
    found += [path for path in work.rglob("*") if not (path.parent == work and path.name.startswith("store-"))]
    return sorted({str(path.relative_to(node.state)) for path in found})


def ends_of(node: Node, op_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The records of an operation that ended, by folder."""
    paths = [(state, node.state / "spool" / state / f"{op_id}.json") for state in ENDS]
    return [(state, json.loads(path.read_text())) for state, path in paths if path.exists()]


def problems_of_end(node: Node, op_id: str) -> list[str]:
    """One end, whose result fits the folder it is in."""
    ends = ends_of(node, op_id)
    if len(ends) != 1:
        return [f"{op_id} has {len(ends)} ends: {[state for state, _ in ends]}"]
    state, record = ends[0]
    last = record["results"][-1]
    wanted = {"done": "succeeded", "failed": "failed", "refused": "refused"}[state]
    told = []
    if last["status"] != wanted or last["generation"] != record["generation"]:
        told.append(f"{op_id} is {last['status']} of generation {last['generation']} in {state}/")
    generations = [result["generation"] for result in record["results"]]
    if generations != sorted(set(generations)):
        told.append(f"{op_id} has results of the generations {generations}")
    if [result["status"] for result in record["results"]].count("succeeded") > 1:
        told.append(f"{op_id} succeeded more than once")
    return told


def problems_of_store(found: Stored) -> list[str]:
    """Whatever is listed is good: its data are there, whole, and what a restore would get was verified."""
    told = []
    for key, manifest in found.manifests.items():
        content = found.objects.get(manifest["data"]["key"])
        if content is None:
            told.append(f"{key} names data that are not there")
            continue
        if problem := _problem_of_data(manifest, content):
            told.append(f"{key}: {problem}")
        outcomes = {check["level"]: check["outcome"] for check in manifest["checks"]}
        if bad := [level for level, allowed in GOOD.items() if outcomes.get(level) not in allowed]:
            told.append(f"{key} is listed although {', '.join(bad)} did not pass")
    return told


def _problem_of_data(manifest: Mapping[str, Any], content: bytes) -> str:
    if hashlib.sha256(content).hexdigest() != manifest["data"]["sha256"]:
        return "its data have another sha256"
    raw = zstd.decompress(content)
    if hashlib.sha256(raw).hexdigest() != manifest["raw_sha256"]:
        return "what it unpacks to has another sha256"
    if hashlib.sha256(raw[:-32]).digest() != raw[-32:]:
        return "its trailer is wrong"
    return ""


def orphans(node: Node) -> list[str]:
    """Processes of a node whose daemon has ended."""
    return [
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for pid in killing.processes_of(str(node.root))
        if Path(f"/proc/{pid}").exists()
    ]


def orphans_beside(node: Node) -> list[str]:
    """Workers and tools that go on although nothing is to be done; for a node whose daemon lives."""
    roles = ("worker", "caretaker", "tool", "script", "submit", "cancel")
    return [f"{role} {pid}" for role in roles for pid in killing.processes_of(str(node.root), role)]
