"""Metrics as log lines in CloudWatch's embedded metric format: one JSON object with `_aws`, nothing around it.

Dimensions are the cluster alone, and cluster and node: the line's own fields. The trace id is a field, never a
dimension. (AWS: "CloudWatch embedded metric format specification".) Lines can arrive twice.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

from agent.logs import emit

NAMESPACE = "EtcdAgent"
DIMENSIONS = [["cluster"], ["cluster", "node"]]
log = logging.getLogger(__name__)


def schedule_looked(age_s: float | None, missed: int) -> None:
    """A look at the schedule; without any snapshot there is no age, and an alarm on missing data tells."""
    units = {"MissedSlots": "Count"} | ({} if age_s is None else {"SnapshotAgeSeconds": "Seconds"})
    values = {"MissedSlots": missed} | ({} if age_s is None else {"SnapshotAgeSeconds": round(age_s, 3)})
    emit(log, logging.INFO, "metrics.schedule", "the newest good snapshot's age", emf=_directive(units), **values)


def snapshot_ended(*, succeeded: bool, stored: bool, duration_ms: int) -> None:
    """An operation `snapshot` came to its end. `StoredFalse` counts those that wait on their node."""
    units = {"SnapshotSucceeded": "Count", "SnapshotFailed": "Count", "StoredFalse": "Count"}
    emit(
        log, logging.INFO, "metrics.snapshot", "an operation snapshot ended",
        emf=_directive(units | {"DurationMs": "Milliseconds"}), SnapshotSucceeded=int(succeeded),
        SnapshotFailed=int(not succeeded), StoredFalse=int(succeeded and not stored), DurationMs=duration_ms,
    )  # fmt: skip


def _directive(units: Mapping[str, str]) -> dict[str, Any]:
    """What makes the line a metric; the formatter writes it as `_aws`."""
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    return {
        "Timestamp": round(time.time() * 1000),
        "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": DIMENSIONS, "Metrics": metrics}],
    }
