"""What an S3 store can do is probed, not believed: conditions on writes, and checksums that it really compares."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from agent.adapters import files
from agent.adapters.s3_bucket import CONFLICT_CODES, TAKEN_CODES, Bucket
from agent.domain.multipart import as_base64
from agent.errors import AwsRefused

# Refusals that say nothing about what a store can do: of this node, at this time.
SETUP_CODES = CONFLICT_CODES | {
    "AccessDenied", "403", "Forbidden", "NoSuchBucket", "NoCredentials", "InvalidAccessKeyId", "ExpiredToken",
    "InvalidToken", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "NoRegion",
}  # fmt: skip


class Probe:
    """Small objects below a folder of the bucket show it once; the node remembers it in a file."""

    def __init__(self, bucket: Bucket, state_folder: Path, folder: str) -> None:
        self._bucket = bucket
        self._state_folder = state_folder
        self._folder = folder

    def capabilities(self) -> Mapping[str, bool]:
        """`conditions` and `checksums`: whether it keeps the one and refuses the other when they are wrong."""
        config = self._bucket.config
        location = f"{config.endpoint_url}|{self._bucket.place(config.prefix).rstrip('/')}"
        path = self._state_folder / f"store-{hashlib.sha256(location.encode()).hexdigest()[:16]}.json"
        with contextlib.suppress(FileNotFoundError, ValueError):
            known = json.loads(path.read_text())
            if isinstance(known, dict) and {"conditions", "checksums"} <= known.keys():
                return known
        known = self._find_out()
        files.write_atomic(path, json.dumps(known).encode())
        return known

    def _find_out(self) -> dict[str, bool]:
        """What is refused counts only beside the same call that is taken: a store may refuse for other reasons."""
        condition = {"IfNoneMatch": "*"}
        _, second = (self._try("probe-condition", b"probe", condition) for _ in range(2))
        conditions = second is not None and second.aws_code in TAKEN_CODES
        if not conditions:
            condition = {}
            plain = self._try("probe-condition", b"probe", condition)
            if plain is not None:
                raise plain  # it takes nothing at all, which says nothing about conditions
        wrong = self._try(f"probe-checksum-{secrets.token_hex(4)}", b"other bytes", condition)
        return {"conditions": conditions, "checksums": wrong is not None}

    def _try(self, name: str, checksummed: bytes, condition: Mapping[str, str]) -> AwsRefused | None:
        """Sends a small object with the checksum of those bytes. Returns the refusal, None when it was taken."""
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": as_base64(hashlib.sha256(checksummed).digest())}
        key = self._bucket.full(f"{self._folder}/{name}")
        try:
            self._bucket.repeat(
                "put_object", Key=key, Body=b"probe", **condition, **checksum, **self._bucket.common({})
            )
        except AwsRefused as answer:
            if answer.aws_code in SETUP_CODES:
                raise
            return answer
        return None
