"""Cutting a stream into parts: nothing is lost or moved, and the sums are those that S3 computes."""

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.multipart import PART_BYTES, Sums


def test_a_part_is_as_large_as_s3_wants_it_and_the_last_one_the_rest() -> None:
    sums = Sums()
    sizes = [len(part.content) for part in sums.cut([b"a" * (PART_BYTES - 1), b"b" * (PART_BYTES + 3)])]
    assert sizes == [PART_BYTES, PART_BYTES, 2]


def test_an_empty_stream_is_one_empty_part() -> None:
    (part,) = Sums().cut([])
    assert (part.number, part.content) == (1, b"")


@given(st.lists(st.binary(max_size=2000), max_size=20))
def test_the_parts_are_the_stream_and_have_its_sums(chunks: list[bytes]) -> None:
    sums = Sums()
    parts = list(sums.cut(chunks))
    whole = b"".join(chunks)
    assert b"".join(part.content for part in parts) == whole
    assert [part.number for part in parts] == list(range(1, sums.count + 1))
    assert (sums.size_bytes, sums.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    digests = [hashlib.sha256(part.content).digest() for part in parts]
    assert [part.checksum for part in parts] == [base64.b64encode(digest).decode() for digest in digests]
    composite = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    assert sums.composite_sha256 == f"{composite}-{len(parts)}"
