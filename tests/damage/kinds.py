"""What can become of a file's bytes. Each kind gives other bytes than it got, the same for the same random numbers."""

import hashlib
import random
from collections.abc import Callable

from agent.operations.inspection import PAGE_BYTES, TRAILER_BYTES

Damage = Callable[[random.Random, bytes, bytes], bytes]
"""The random numbers, the content, and another file of the same origin, whose parts may get into this one."""
BLOCKS_BYTES = (1, 16, 512, 4096)  # of a controller, of a sector, of a page


def one_bit(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """One bit flips."""
    return _flipped(content, [rng.randrange(len(content) * 8)])


def some_bits(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """2 to 64 bits flip, all over the file or within one page."""
    start = rng.randrange(len(content)) if rng.random() < 0.5 else 0
    end = min(len(content), start + 4096) if start else len(content)
    return _flipped(content, [rng.randrange(start * 8, end * 8) for _ in range(rng.randint(2, 64))])


def overwritten(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A range becomes zeros, ones, or noise: a block that was never written, or that reads as something else."""
    start, end = _range(rng, len(content))
    length = end - start
    fill = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
    return content[:start] + fill + content[end:]


def cut_off(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """The end is missing: all but some bytes, whole pages, the trailer alone, everything."""
    length = len(content)
    pages_bytes = rng.randrange(length) // PAGE_BYTES * PAGE_BYTES
    left = rng.choice([rng.randrange(length), length - 1, length - TRAILER_BYTES, pages_bytes,
                       pages_bytes + TRAILER_BYTES, 0])  # fmt: skip
    return content[: max(0, min(left, length - 1))]


def beginning_lost(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """The beginning is missing."""
    return content[rng.randint(1, len(content) - 1) :]


def swapped(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Two blocks changed places."""
    size = _block(rng, len(content) // 2)
    first, second = sorted(rng.sample(range(len(content) // size), 2))
    one, two = content[first * size : (first + 1) * size], content[second * size : (second + 1) * size]
    return (
        content[: first * size] + two + content[(first + 1) * size : second * size] + one
        + content[(second + 1) * size :]
    )  # fmt: skip


def shuffled(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """All blocks are there, in another order."""
    size = max(16, _block(rng, len(content) // 3))
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    rng.shuffle(blocks)
    return b"".join(blocks)


def dropped(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A range in the middle is missing."""
    start, end = _range(rng, len(content))
    return content[:start] + content[end:]


def repeated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A range comes twice."""
    start, end = _range(rng, len(content))
    return content[:end] + content[start:end] + content[end:]


def misplaced(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A block was written over another one."""
    size = _block(rng, len(content) // 2)
    source, target = rng.sample(range(len(content) // size), 2)
    block = content[source * size : (source + 1) * size]
    return content[: target * size] + block + content[(target + 1) * size :]


def of_another(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Blocks of an older snapshot of the same database: a write that did not reach the disk."""
    size = _block(rng, min(len(content), len(other)) // 2)
    start = rng.randrange(min(len(content), len(other)) // size) * size
    return content[:start] + other[start : start + size] + content[start + size :]


def longer(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Something stands before it, in it, or behind it."""
    extra = rng.randbytes(rng.choice([1, TRAILER_BYTES, PAGE_BYTES, 4096]))
    if rng.random() < 0.5:
        extra = bytes(len(extra))
    at = rng.choice([0, rng.randrange(len(content)), len(content)])
    return content[:at] + extra + content[at:]


def wrong_trailer(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """The last 32 bytes are another snapshot's, noise, zeros, turned round, or have one bit flipped."""
    body, trailer = content[:-TRAILER_BYTES], content[-TRAILER_BYTES:]
    return body + rng.choice([
        other[-TRAILER_BYTES:], rng.randbytes(TRAILER_BYTES), bytes(TRAILER_BYTES), trailer[::-1],
        _flipped(trailer, [rng.randrange(TRAILER_BYTES * 8)]), hashlib.sha256(content).digest(),
        hashlib.sha256(b"").digest(),
    ])  # fmt: skip


KINDS: dict[str, Damage] = {
    "one bit flipped": one_bit, "several bits flipped": some_bits, "range overwritten": overwritten,
    "end cut off": cut_off, "beginning lost": beginning_lost, "two blocks swapped": swapped,
    "all blocks shuffled": shuffled, "range dropped": dropped, "range repeated": repeated,
    "block over another": misplaced, "blocks of an older one": of_another, "bytes added": longer,
    "wrong trailer": wrong_trailer,
}  # fmt: skip


def damaged(kind: str, rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Bytes that are surely not the content: swapping two equal pages is no damage."""
    while (made := KINDS[kind](rng, content, other)) == content:
        pass
    return made


def resealed(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
    """A body damaged by any kind, whole pages of it, with its right checksum behind it; and which kind that was.

    No accident does that: whoever recomputes the checksum meant it, or etcd itself read a damaged file.
    """
    body, older = content[:-TRAILER_BYTES], other[:-TRAILER_BYTES]
    while True:
        kind = rng.choice([name for name in KINDS if name != "wrong trailer"])
        made = damaged(kind, rng, body, older)
        made = made[: len(made) // PAGE_BYTES * PAGE_BYTES]
        if made != body:
            return kind, made + hashlib.sha256(made).digest()


def _flipped(content: bytes, bits: list[int]) -> bytes:
    made = bytearray(content)
    for bit in bits:
        made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _range(rng: random.Random, length: int) -> tuple[int, int]:
    """Of any bytes, or of whole pages."""
    unit = rng.choice([1, PAGE_BYTES]) if length > 2 * PAGE_BYTES else 1
    first, last = sorted(rng.sample(range(length // unit + 1), 2))
    return first * unit, last * unit


def _block(rng: random.Random, most_bytes: int) -> int:
    return rng.choice([size for size in BLOCKS_BYTES if size <= most_bytes])
