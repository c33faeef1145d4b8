"""A snapshot's retention class, and which snapshots may go: a pure plan with a reason for each.

A snapshot's class is fixed when it is stored, so that a store's age rules can go by prefix. Within a class the newest
sound ones stay by count, and every one stays until the class's least age, so neither a burst of snapshots nor a clock
that jumps can empty a store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.domain.request import parse_moment
from agent.domain.snapshot import Backup, RetentionClass

MONTHLY_AGE = timedelta(days=31)
SLOT_CLASSES: tuple[RetentionClass, ...] = ("monthly", "weekly", "daily")


@dataclass(frozen=True)
class ClassRule:
    """How many sound ones of a class stay whatever their age, and the age before which none goes."""

    count: int
    least_age: timedelta


@dataclass(frozen=True)
class Held:
    """One snapshot that a store holds. `locked_until` is the end of an object lock, None without one.

    A sound one's bytes are right; a good one is also known to be fresh, which one taken in an emergency never is.
    """

    snapshot_id: str
    retention_class: RetentionClass
    cluster: str
    requested_at: datetime
    is_good: bool
    is_sound: bool
    locked_until: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """What becomes of one snapshot, and why in words."""

    held: Held
    keep: bool
    reason: str


def choose_class(backups: Iterable[Backup], requested_at: str) -> RetentionClass:
    """The class of the longest calendar slot that has no good snapshot yet.

    `monthly`, which has no expiry rule, when no good monthly is younger than 31 days; `weekly` when the ISO week has
    neither; `daily` when the day (UTC) has none of these; else `hourly`. `backups` needs to hold what is good around
    that time; others do not matter.
    """
    now = parse_moment(requested_at)
    slots = [
        (backup.manifest.retention_class, moment)
        for backup in backups
        if backup.is_good
        # One from a time to come would be young for ever, and no other would be kept for good.
        and abs(now - (moment := parse_moment(backup.manifest.requested_at))) < MONTHLY_AGE
    ]
    if not any(kind == "monthly" for kind, _ in slots):
        return "monthly"
    if not any(kind in ("monthly", "weekly") and _week(moment) == _week(now) for kind, moment in slots):
        return "weekly"
    if not any(kind in SLOT_CLASSES and moment.date() == now.date() for kind, moment in slots):
        return "daily"
    return "hourly"


def plan(
    held: Iterable[Held], *, cluster: str, now: datetime, rules: Mapping[RetentionClass, ClassRule]
) -> list[Verdict]:
    """A verdict for each snapshot, the newest first.

    Never lets go: the newest good one, anything of another cluster, anything locked, anything from a time to come.
    """
    rows = sorted(held, key=lambda row: (row.requested_at, row.snapshot_id), reverse=True)
    protected = _newest_good(rows, cluster, now)
    ranks: dict[RetentionClass, int] = {}
    verdicts = []
    for row in rows:
        reason = f"it belongs to cluster {row.cluster!r}" if row.cluster != cluster else ""
        if not reason:
            rank = ranks.get(row.retention_class, 0)
            ranks[row.retention_class] = rank + row.is_sound
            reason = _why_kept(row, rank, now, rules[row.retention_class], row in protected)
        verdicts.append(Verdict(row, bool(reason), reason or _why_gone(row, rules[row.retention_class])))
    return verdicts


def _newest_good(rows: Sequence[Held], cluster: str, now: datetime) -> tuple[Held, ...]:
    """The newest good one, and the newest good one that is not from a time to come: its clock may have been wrong."""
    good = [row for row in rows if row.is_good and row.cluster == cluster]
    past = (row for row in good if row.requested_at <= now)
    return (*good[:1], *(row for row in [next(past, None)] if row is not None))


def _why_kept(row: Held, rank: int, now: datetime, rule: ClassRule, is_newest: bool) -> str:
    if is_newest:
        return "it is the newest good snapshot"
    if row.locked_until is not None and row.locked_until > now:
        return f"it is locked until {row.locked_until:%Y-%m-%dT%H:%M:%SZ}"
    if now - row.requested_at < rule.least_age:
        return f"it is younger than the {_days(rule.least_age)} that {row.retention_class} ones stay at least"
    if row.is_sound and rank < rule.count:
        return f"it is among the newest {rule.count} {row.retention_class} ones"
    return ""


def _why_gone(row: Held, rule: ClassRule) -> str:
    if not row.is_sound:
        return f"it is not sound, and older than {_days(rule.least_age)}"
    return f"{rule.count} newer {row.retention_class} ones stay, and it is older than {_days(rule.least_age)}"


def _week(moment: datetime) -> tuple[int, int]:
    year, week, _ = moment.isocalendar()
    return year, week


def _days(age: timedelta) -> str:
    days = age.total_seconds() / 86400
    return f"{days:g} day{'' if days == 1 else 's'}"
