"""Records of later verifications: each a file of its own beside the manifest, never written over."""

from datetime import datetime, timedelta

from agent.domain import snapshot
from agent.domain.snapshot import Manifest, Verification
from agent.errors import StoreError
from agent.ports import Store

MOST_IN_A_SECOND = 20


def write(store: Store, manifest: Manifest, record: Verification, moment: datetime) -> None:
    """Another node's record of the same second must not hide ours, which may say the opposite. Raises StoreError."""
    metadata = {"trace-id": record.trace_id, "op-id": record.op_id, "cluster": manifest.cluster}
    content = snapshot.encode(record)
    moments = (moment + timedelta(seconds=later) for later in range(MOST_IN_A_SECOND))
    keys = (snapshot.verification_key(manifest, record.level, one) for one in moments)
    if not any(store.put_if_absent(key, content, metadata=metadata) for key in keys):
        raise StoreError(f"the outcome for {record.snapshot_id} can not be recorded: every name for it is taken")
