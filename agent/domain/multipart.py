"""A stream cut into the parts of a multipart upload, with the checksums that S3 keeps of them."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PART_BYTES = 5 * 1024 * 1024  # the smallest that S3 takes, the last part apart


@dataclass(frozen=True)
class Part:
    """One part, its number from 1 on, and its SHA-256 as S3 writes it."""

    number: int
    content: bytes
    checksum: str


class Sums:
    """What is known of the parts so far: number, bytes, and the checksums of the whole."""

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self._whole = hashlib.sha256()
        self._digests = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all bytes, in hex."""
        return self._whole.hexdigest()

    @property
    def composite_sha256(self) -> str:
        """The checksum of a multipart object: that of its parts' digests, with their number."""
        return f"{as_base64(self._digests.digest())}-{self.count}"

    def cut(self, chunks: Iterable[bytes]) -> Iterator[Part]:
        """The parts, one after the other; an empty stream is one empty part, as S3 wants at least one."""
        buffer = bytearray()
        for chunk in chunks:
            buffer += chunk
            while len(buffer) >= PART_BYTES:
                yield self._next(bytes(buffer[:PART_BYTES]))
                del buffer[:PART_BYTES]
        if buffer or not self.count:
            yield self._next(bytes(buffer))

    def _next(self, content: bytes) -> Part:
        digest = hashlib.sha256(content).digest()
        self._digests.update(digest)
        self._whole.update(content)
        self.count += 1
        self.size_bytes += len(content)
        return Part(self.count, content, as_base64(digest))


def as_base64(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()
