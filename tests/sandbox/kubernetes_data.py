"""Fills an etcd with keys and values shaped like those of a Kubernetes API server."""

import base64
import json
import random
from collections.abc import Callable

from tests.sandbox.etcd_cluster import EtcdMember, call

PUTS_PER_TXN = 64
KINDS = ("pods", "configmaps", "secrets", "events", "leases", "replicasets", "endpointslices")
WORDS = ("spec", "status", "labels", "app", "nginx", "container", "image", "volume", "mount", "ready", "phase", "probe")


def fill(member: EtcdMember, size_mb: int, on_progress: Callable[[int], None], seed: int = 1) -> int:
    """Writes values of 1 to 10 KiB until `size_mb` are there; returns how many keys."""
    chance = random.Random(seed)
    written_bytes = keys = 0
    with member.connection() as connection:
        while written_bytes < size_mb * 1_000_000:
            puts = []
            for _ in range(PUTS_PER_TXN):
                value = manifest(chance)
                key = f"/registry/{chance.choice(KINDS)}/namespace-{keys % 20}/object-{keys}"
                puts.append({"requestPut": {"key": _base64(key), "value": _base64(value)}})
                written_bytes += len(value)
                keys += 1
            call(connection, "/v3/kv/txn", {"success": puts})
            on_progress(written_bytes)
    return keys


def manifest(chance: random.Random) -> str:
    """An object with nested fields and unique ids, about as compressible as a real one."""
    wanted = chance.randint(1024, 10 * 1024)
    fields = {}
    size = 0
    while size < wanted:
        name = f"{chance.choice(WORDS)}-{chance.randint(0, 99)}"
        value = {chance.choice(WORDS): f"{chance.getrandbits(64):016x}", "value": " ".join(chance.choices(WORDS, k=12))}
        fields[name] = value
        size += len(name) + 120
    return json.dumps({"apiVersion": "v1", "metadata": {"uid": f"{chance.getrandbits(128):032x}"}, "spec": fields})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
