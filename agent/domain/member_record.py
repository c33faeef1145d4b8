"""What each agent writes of its node into etcd, under `nodes/<instance id>`: who runs which member, or a tombstone.

Ids of members and clusters are hex, as etcdctl shows them. A field that a later agent adds is no error, as nodes are
not brought to a new version all at once.
"""

import re
from typing import Literal

import msgspec

from agent.domain.key_txn import one_line
from agent.domain.request import Moment, OpId, TraceId
from agent.errors import BadInput

PREFIX = "/etcd-agent/v1/nodes/"
MOST_RECORD_BYTES = 16 * 1024
_INSTANCE_ID = re.compile(r"\A[a-zA-Z0-9][a-zA-Z0-9.-]{0,127}\Z")


class NodeRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="node"):
    """A node's own word. `member_id` is empty where its agent is sure that no member runs there.

    The agent writes a member's id only if the local endpoint answers as it and an own address is its peer host.
    """

    instance_id: str
    cluster_id: str
    member_id: str
    peer_urls: tuple[str, ...]
    node_name: str
    private_ips: tuple[str, ...]
    zone: str
    agent_version: str
    written_at: Moment
    trace_id: TraceId
    schema: Literal[1] = 1


class Tombstone(msgspec.Struct, frozen=True, tag_field="kind", tag="tombstone"):
    """The member of that instance was removed, and seen gone."""

    instance_id: str
    cluster_id: str
    member_id: str
    removed_at: Moment
    op_id: OpId
    trace_id: TraceId
    schema: Literal[1] = 1


Record = NodeRecord | Tombstone


def key(instance_id: str) -> str:
    """The key of an instance's record. Raises BadInput for what is no instance id."""
    if not _INSTANCE_ID.match(instance_id):
        raise BadInput(f"{instance_id[:64]!r} is no instance id")
    return PREFIX + instance_id


def encode(record: Record) -> bytes:
    """The value of its key."""
    return one_line(record)


def decode(key_name: str, value: bytes) -> Record | None:
    """Reads a record; None of what is none, or names another instance than its key does."""
    if len(value) > MOST_RECORD_BYTES:
        return None
    try:
        record: Record = msgspec.json.decode(value, type=NodeRecord | Tombstone)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if key_name == PREFIX + record.instance_id else None
