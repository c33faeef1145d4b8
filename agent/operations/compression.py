"""zstd as streams of chunks; the standard library's own from Python 3.14 on."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.errors import SnapshotInvalid

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 1024 * 1024
MOST_WINDOW_LOG = 23  # 8 MiB, as level 19 has, the highest usual one; a damaged header may ask for gigabytes


@dataclass(frozen=True)
class Effort:
    """What compressing may cost: a zstd level from 1 to 19, and how many threads compress.

    One thread is the caller's own, and the plain stream. More cut the stream into jobs of their own, so the bytes
    differ, and each has buffers beside the caller's.
    """

    level: int = 1
    threads: int = 1


LEAST_EFFORT = Effort()


def compressed(chunks: Iterable[bytes | memoryview], effort: Effort = LEAST_EFFORT) -> Iterator[bytes]:
    """Chunks of bytes as a zstd stream of one frame with a checksum; none is kept once the next is asked for."""
    parameters = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(
        options={
            parameters.compression_level: effort.level, parameters.checksum_flag: 1,
            parameters.nb_workers: _workers(effort.threads),
        }
    )  # fmt: skip
    for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The raw bytes of a zstd stream of one frame. Raises SnapshotInvalid when it is damaged, cut or has a tail."""
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MOST_WINDOW_LOG})
    try:
        for packed in chunks:
            if _ended(decompressor):
                raise SnapshotInvalid("the compressed stream goes on after its end")
            chunk = packed
            while chunk or not decompressor.needs_input:
                if raw := decompressor.decompress(chunk, CHUNK_BYTES):
                    yield raw
                chunk = b""
                if _ended(decompressor):
                    break
    except zstd.ZstdError as error:
        raise SnapshotInvalid(f"the compressed stream is damaged: {error}") from None
    if not decompressor.eof or decompressor.unused_data:
        raise SnapshotInvalid("the compressed stream is cut short or has a tail that does not belong to it")


def _workers(threads: int) -> int:
    """zstd's own count, where 0 is the calling thread alone; a library that was built without threads has no other."""
    _, most = zstd.CompressionParameter.nb_workers.bounds()
    return min(threads, most) if threads > 1 else 0


def _ended(decompressor: zstd.ZstdDecompressor) -> bool:
    return decompressor.eof
