"""The class that a snapshot is stored under: the longest calendar slot that has no good one yet."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from agent.domain import retention
from agent.domain.snapshot import Backup
from tests.unit.test_snapshot_domain import GOOD, REQUESTED_AT, backup, verification


@pytest.mark.parametrize(
    "stored, wanted",
    [
        ([], "monthly"),
        ([backup("2025-12-31T12:00:01Z")], "weekly"),
        ([backup("2025-12-31T12:00:00Z")], "monthly"),
        ([backup("2026-01-31T11:00:00Z")], "hourly"),
        ([backup("2026-01-31T11:00:00Z", outcomes=GOOD | {"structure": "failed"})], "monthly"),
        ([backup("2026-01-31T11:00:00Z", later=[verification("failed")])], "monthly"),
        ([backup("2026-01-31T11:00:00Z", "hourly")], "monthly"),
        ([backup("2024-01-31T11:00:00Z"), backup("2026-01-31T11:00:00Z")], "hourly"),
        ([backup("2026-01-31T13:00:00Z")], "hourly"),
        ([backup("9999-12-31T23:59:59Z")], "monthly"),
        # 2026-01-31 is a Saturday: its ISO week began on the 26th.
        ([backup("2026-01-26T00:00:00Z")], "daily"),
        ([backup("2026-01-25T23:59:59Z")], "weekly"),
        ([backup("2026-01-10T00:00:00Z"), backup("2026-01-26T00:00:00Z", "weekly")], "daily"),
        ([backup("2026-01-10T00:00:00Z"), backup("2026-01-30T23:59:59Z", "daily")], "weekly"),
        (
            [backup("2026-01-10T00:00:00Z"), backup("2026-01-26T00:00:00Z", "weekly"),
             backup("2026-01-31T00:00:00Z", "daily")],
            "hourly",
        ),
        (
            [backup("2026-01-10T00:00:00Z"), backup("2026-01-26T00:00:00Z", "weekly"),
             backup("2026-01-31T00:00:00Z", "daily", later=[verification("failed")])],
            "daily",
        ),
        (
            [backup("2026-01-10T00:00:00Z"), backup("2026-01-26T00:00:00Z", "weekly"),
             backup("2026-01-31T00:00:00Z", "hourly")],
            "daily",
        ),
    ],
)  # fmt: skip
def test_the_longest_slot_without_a_good_one_is_filled_first(stored: Sequence[Backup], wanted: str) -> None:
    assert retention.choose_class(stored, REQUESTED_AT) == wanted


def test_hourly_snapshots_over_a_year_fill_every_slot_once() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    stored: list[Backup] = []
    for hours in range(0, 24 * 365, 6):
        moment = f"{start + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
        recent = stored[-140:]  # 35 days of them
        stored.append(backup(moment, retention.choose_class(recent, moment)))
    classes = [one.manifest.retention_class for one in stored]
    assert classes.count("monthly") == 12  # one every 31 days
    days = {one.manifest.requested_at[:10] for one in stored if one.manifest.retention_class != "hourly"}
    assert len(days) == 365
    weeks = {
        datetime.fromisoformat(one.manifest.requested_at).isocalendar()[:2]
        for one in stored
        if one.manifest.retention_class in ("weekly", "monthly")
    }
    assert len(weeks) == 53
    assert classes.count("hourly") == 365 * 3
