"""Verified snapshots that the store did not take: what is known of each, and which have to go when there is no room."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agent.domain import request as requests
from agent.domain.request import ErrorResult, Request
from agent.domain.snapshot import Manifest
from agent.errors import BadInput, SnapshotInvalid


class Draft(msgspec.Struct, frozen=True):
    """A manifest but for what only the store can tell: class, key and the level `stored` come when it is shipped."""

    manifest: Manifest
    emergency: bool
    kept_at: str
    why: ErrorResult
    schema: int = 1

    def request(self) -> Request:
        """The request that the snapshot was taken for, under whose trace and op id it is shipped."""
        made = self.manifest
        return requests.make(
            op_id=made.op_id, operation="snapshot", trace_id=made.trace_id, requested_at=made.requested_at,
            params={"emergency": "true"} if self.emergency else {}, source="node",
        )  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """One snapshot of the outbox: its id, the bytes of its data, and its draft, None where that can not be read."""

    snapshot_id: str
    size_bytes: int
    draft: Draft | None

    @property
    def is_good(self) -> bool:
        """Whether it is one that would be good once it is stored."""
        return self.draft is not None and not self.draft.emergency


@dataclass(frozen=True)
class Bounds:
    """How many snapshots, and how many bytes of them, may be kept."""

    most: int
    most_bytes: int


def overflow(kept: Sequence[Kept], bounds: Bounds, just_kept: str = "") -> list[Kept]:
    """Which have to go, the oldest first, until neither bound is passed; never the newest good one, nor the newest.

    Nor the one that was just kept: where the clock went back it seems older than those that hold older data.
    """
    ordered, stays = _ordered(kept)
    stays.add(just_kept)
    count, total_bytes = len(ordered), sum(one.size_bytes for one in ordered)
    going = []
    for one in ordered:
        if count <= bounds.most and total_bytes <= bounds.most_bytes:
            break
        if one.snapshot_id in stays:
            continue
        going.append(one)
        count, total_bytes = count - 1, total_bytes - one.size_bytes
    return going


def to_free(kept: Sequence[Kept], needed_bytes: int) -> list[Kept]:
    """Which have to go so that so many bytes get free, or all that may if they are fewer; the oldest first.

    Never the newest good one, nor the newest.
    """
    ordered, stays = _ordered(kept)
    going: list[Kept] = []
    freed_bytes = 0
    for one in ordered:
        if freed_bytes >= needed_bytes:
            break
        if one.snapshot_id not in stays:
            going.append(one)
            freed_bytes += one.size_bytes
    return going


def _ordered(kept: Sequence[Kept]) -> tuple[list[Kept], set[str]]:
    """The oldest first, and the ids of those that never go."""
    ordered = sorted(kept, key=lambda one: one.snapshot_id)
    stays = {ordered[-1].snapshot_id} if ordered else set()
    stays |= {one.snapshot_id for one in [next((one for one in reversed(ordered) if one.is_good), None)] if one}
    return ordered, stays


def encode(draft: Draft) -> bytes:
    """The bytes of a draft: JSON a person can read."""
    return msgspec.json.format(msgspec.json.encode(draft), indent=2) + b"\n"


def decode(content: bytes, name: str) -> Draft:
    """Reads a draft. Raises SnapshotInvalid."""
    try:
        draft = msgspec.json.decode(content, type=Draft)
        draft.request()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadInput) as error:
        raise SnapshotInvalid(f"{name} can not be read: {error}", hint="its data can not be shipped") from None
    return draft
