"""zstd at every level and number of threads that can be configured: one frame with a checksum, the same bytes back."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import SnapshotInvalid
from agent.operations import compression
from agent.operations.compression import Effort, compressed, decompressed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WORDS = random.Random(1)
RAW = b"".join(b'{"kind":"Pod","name":"%x"}' % WORDS.getrandbits(60) for _ in range(20_000))


def packed(effort: Effort) -> bytes:
    return b"".join(compressed([RAW[:100_000], RAW[100_000:]], effort))


@pytest.mark.parametrize("level, threads", [(1, 1), (1, 2), (3, 4), (19, 1)])
def test_it_reads_back_at_any_effort(level: int, threads: int) -> None:
    stream = packed(Effort(level, threads))
    assert b"".join(decompressed([stream])) == RAW
    altered = bytearray(stream)
    altered[len(altered) // 2] ^= 1
    with pytest.raises(SnapshotInvalid):
        list(decompressed([bytes(altered)]))


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.binary(max_size=5000), max_size=20), threads=st.integers(1, 4))
def test_it_reads_back_however_it_is_cut(cuts: list[bytes], threads: int) -> None:
    stream = b"".join(compressed(cuts, Effort(3, threads)))
    assert b"".join(decompressed([stream])) == b"".join(cuts)


def test_a_higher_level_makes_it_smaller() -> None:
    assert len(packed(Effort(19))) < len(packed(Effort(1)))


def test_one_thread_is_the_plain_stream() -> None:
    parameters = zstd.CompressionParameter
    plain = zstd.ZstdCompressor(options={parameters.compression_level: 1, parameters.checksum_flag: 1})
    assert packed(Effort()) == plain.compress(RAW[:100_000]) + plain.compress(RAW[100_000:]) + plain.flush()


def test_more_threads_are_asked_of_zstd_as_far_as_it_has_them() -> None:
    _, most = zstd.CompressionParameter.nb_workers.bounds()
    assert [compression._workers(threads) for threads in (1, 2, 4)] == [0, min(2, most), min(4, most)]
