"""Checking a snapshot file: the trailer that etcdctl never checks, and the structure."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SnapshotInvalid

TRAILER_BYTES = 32
PAGE_BYTES = 512
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class RawFile:
    """A snapshot file whose trailer was found right."""

    size_bytes: int
    sha256: str


def check_trailer(path: Path) -> RawFile:
    """etcd appends the SHA-256 of all that comes before: compares it. Raises SnapshotInvalid."""
    size_bytes = path.stat().st_size
    if size_bytes % PAGE_BYTES != TRAILER_BYTES:
        raise SnapshotInvalid(
            f"the snapshot has {size_bytes} bytes, not whole pages and a checksum of {TRAILER_BYTES} bytes",
            hint="it was cut off: look for a broken connection or a full disk",
        )
    digest = hashlib.sha256()
    left_bytes = size_bytes - TRAILER_BYTES
    with path.open("rb") as stream:
        while left_bytes and (chunk := stream.read(min(CHUNK_BYTES, left_bytes))):
            digest.update(chunk)
            left_bytes -= len(chunk)
        trailer = stream.read()
    whole = digest.copy()
    whole.update(trailer)
    if left_bytes or digest.digest() != trailer:
        raise SnapshotInvalid(
            "the snapshot's bytes do not have the checksum at its end",
            hint="they were altered between etcd's disk and this node's: check memory and disks, then try again",
        )
    return RawFile(size_bytes, whole.hexdigest())
