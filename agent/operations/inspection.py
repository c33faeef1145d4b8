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


class TrailerDigest:
    """The checks of a raw snapshot that is read once, in chunks of any size."""

    def __init__(self) -> None:
        self._body = hashlib.sha256()
        self._tail = b""
        self.size_bytes = 0

    def update(self, chunk: bytes | memoryview) -> None:
        """Takes the next bytes; the last 32 so far are held back, as they may be the trailer."""
        self.size_bytes += len(chunk)
        if len(chunk) >= TRAILER_BYTES:
            self._body.update(self._tail)
            self._body.update(memoryview(chunk)[:-TRAILER_BYTES])
            self._tail = bytes(chunk[-TRAILER_BYTES:])
        else:
            joined = self._tail + bytes(chunk)
            self._body.update(joined[:-TRAILER_BYTES])
            self._tail = joined[-TRAILER_BYTES:]

    def finished(self) -> RawFile:
        """Compares the trailer. Raises SnapshotInvalid."""
        if self.size_bytes % PAGE_BYTES != TRAILER_BYTES:
            raise SnapshotInvalid(
                f"the snapshot has {self.size_bytes} bytes, not whole pages and a checksum of {TRAILER_BYTES} bytes",
                hint="it was cut off: look for a broken connection or a full disk",
            )
        if self._body.digest() != self._tail:
            raise SnapshotInvalid(
                "the snapshot's bytes do not have the checksum at its end",
                hint="they were altered between etcd's disk and this node's: check memory and disks, then try again",
            )
        whole = self._body.copy()
        whole.update(self._tail)
        return RawFile(self.size_bytes, whole.hexdigest())


def check_trailer(path: Path) -> RawFile:
    """etcd appends the SHA-256 of all that comes before: compares it. Raises SnapshotInvalid."""
    digest = TrailerDigest()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.finished()
