"""Removing snapshots out of a bucket: with an operator's credentials, since a node's role has no s3:Delete*."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.adapters.s3_bucket import ABSENT_CODES, Bucket, Client
from agent.config import StoreConfig
from agent.errors import AwsRefused
from agent.ports import ObjectFacts

NEVER = datetime.max.replace(tzinfo=UTC)


class S3Eraser:
    """Removes objects below `s3://bucket/prefix/`. Where the bucket keeps versions, that sets a delete marker."""

    def __init__(self, config: StoreConfig, *, client: Client, first_wait_s: float = 0.2) -> None:
        self._bucket = Bucket(config, client, first_wait_s)

    def facts(self, key: str) -> ObjectFacts | None:
        """When it was stored, and until when a lock or legal hold keeps it. Raises AwsRefused, AwsUnavailable."""
        head = self._bucket.head(self._bucket.full(key))
        if head is None:
            return None
        return ObjectFacts(head["LastModified"], _locked_until(head))

    def remove(self, key: str) -> None:
        """Raises AwsRefused (AccessDenied for a node's role), AwsUnavailable."""
        try:
            self._bucket.repeat("delete_object", Key=self._bucket.full(key))
        except AwsRefused as answer:
            if answer.aws_code not in ABSENT_CODES:
                raise


def _locked_until(head: Mapping[str, Any]) -> datetime | None:
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        return NEVER
    until: datetime | None = head.get("ObjectLockRetainUntilDate")
    return until
