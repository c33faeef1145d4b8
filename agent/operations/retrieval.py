"""Reading a stored snapshot back: one pass that unpacks it and proves every byte on its way."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.domain.snapshot import Manifest
from agent.errors import SnapshotInvalid
from agent.operations import compression
from agent.operations.inspection import TrailerDigest
from agent.ports import SnapshotTool, Store


def raw_chunks(store: Store, manifest: Manifest) -> Iterator[bytes]:
    """The snapshot as etcd wrote it, in chunks of at most 1 MiB. Only when it ends without an error is it right.

    What is compared: size and SHA-256 of the stored bytes, then the trailer, size and SHA-256 of the raw ones. Memory
    does not grow with the snapshot. Raises SnapshotInvalid, SnapshotNotFound, and the store's errors.
    """
    stored, raw = _StoredDigest(manifest), TrailerDigest()
    with store.open(manifest.data.key, manifest.data.version_id) as chunks:
        for chunk in compression.decompressed(stored.passing(chunks)):
            raw.update(chunk)
            if raw.size_bytes > manifest.raw_size_bytes:
                raise SnapshotInvalid(f"it unpacks to more than the {manifest.raw_size_bytes} bytes of its manifest")
            yield chunk
    stored.compare()
    found = raw.finished()
    if (found.sha256, found.size_bytes) != (manifest.raw_sha256, manifest.raw_size_bytes):
        raise SnapshotInvalid(
            f"the {found.size_bytes} raw bytes have the sha256 {found.sha256}, "
            f"not the {manifest.raw_size_bytes} bytes of {manifest.raw_sha256}"
        )


def check_structure(tool: SnapshotTool, manifest: Manifest, path: Path) -> None:
    """Has the tool walk the file's pages; for bytes that are proven already. Raises SnapshotInvalid."""
    content = tool.status(path)
    if content.revision != manifest.revision:
        raise SnapshotInvalid(f"it holds revision {content.revision}, its manifest says {manifest.revision}")


class _StoredDigest:
    """Hashes what comes out of the store on its way to the decompression."""

    def __init__(self, manifest: Manifest) -> None:
        self._data = manifest.data
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks. Raises SnapshotInvalid for more than the manifest tells of."""
        for chunk in chunks:
            self._size_bytes += len(chunk)
            if self._size_bytes > self._data.size_bytes:
                raise SnapshotInvalid(f"more is stored than the {self._data.size_bytes} bytes of its manifest")
            self._digest.update(chunk)
            yield chunk

    def compare(self) -> None:
        """Raises SnapshotInvalid when what passed is not what was stored."""
        found = self._digest.hexdigest()
        if (found, self._size_bytes) != (self._data.sha256, self._data.size_bytes):
            raise SnapshotInvalid(
                f"the {self._size_bytes} stored bytes have the sha256 {found}, "
                f"not the {self._data.size_bytes} bytes of {self._data.sha256}"
            )
