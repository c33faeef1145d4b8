"""Reading a stored snapshot back: in pieces, whatever its size, and what a frame's header may ask for."""

import hashlib
import sys
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest

from agent.domain.snapshot import Manifest, StoredData
from agent.errors import SnapshotInvalid
from agent.operations import compression, retrieval
from tests.unit.fakes import FakeStore, snapshot_bytes
from tests.unit.test_snapshot_domain import manifest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGE_PAGES = 48 * 2048  # 48 MiB


def stored(store: FakeStore, raw: bytes, packed: bytes) -> Manifest:
    """The manifest of a snapshot that lies in the store in those bytes."""
    made = manifest()
    store.objects[made.data.key] = packed
    data = StoredData(made.data.key, len(packed), hashlib.sha256(packed).hexdigest())
    return msgspec.structs.replace(
        made, data=data, raw_size_bytes=len(raw), raw_sha256=hashlib.sha256(raw).hexdigest()
    )  # fmt: skip


def test_memory_does_not_grow_with_the_snapshot() -> None:
    raw = snapshot_bytes(LARGE_PAGES)
    store = FakeStore()
    of = stored(store, raw, b"".join(compression.compressed([raw])))
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        for chunk in retrieval.raw_chunks(store, of):
            digest.update(chunk)
            assert len(chunk) <= compression.CHUNK_BYTES
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.hexdigest() == of.raw_sha256
    assert peak_bytes < 8 * 1024 * 1024


@pytest.mark.parametrize("level", [-5, 1, 3, 19])
def test_every_usual_level_can_be_read(level: int) -> None:
    raw, store = snapshot_bytes(4096), FakeStore()
    of = stored(store, raw, zstd.compress(raw, level))
    assert b"".join(retrieval.raw_chunks(store, of)) == raw


def test_a_frame_that_asks_for_a_huge_window_is_damaged() -> None:
    raw, store = snapshot_bytes(), FakeStore()
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    of = stored(store, raw, compressor.compress(raw, zstd.ZstdCompressor.FLUSH_BLOCK) + compressor.flush())
    with pytest.raises(SnapshotInvalid, match="the compressed stream is damaged"):
        list(retrieval.raw_chunks(store, of))


def test_a_store_that_never_stops_sending_is_stopped() -> None:
    raw, store, sent = snapshot_bytes(), FakeStore(), [0]
    of = stored(store, raw, b"".join(compression.compressed([raw])))
    empty_block = b"\0\0\0"

    class Endless(FakeStore):
        def open(self, key: str, version_id: str = "") -> "Endless":  # type: ignore[override]
            return self

        def __enter__(self) -> Iterator[bytes]:
            frame = zstd.ZstdCompressor()
            yield frame.compress(raw[:512], zstd.ZstdCompressor.FLUSH_BLOCK)
            while True:
                sent[0] += 1
                yield empty_block

        def __exit__(self, *exception: object) -> None:
            pass

    with pytest.raises(SnapshotInvalid, match="more is stored"):
        list(retrieval.raw_chunks(Endless(), of))
    assert sent[0] <= of.data.size_bytes


def test_what_unpacks_to_far_more_than_its_manifest_says_is_stopped_at_once() -> None:
    raw, store = snapshot_bytes(), FakeStore()
    of = stored(store, raw, b"".join(compression.compressed([bytes(64 * 1024 * 1024)])))
    sizes: list[int] = []
    with pytest.raises(SnapshotInvalid, match="unpacks to more"):
        sizes.extend(map(len, retrieval.raw_chunks(store, of)))
    assert sum(sizes) <= len(raw)
