"""How far a backup was verified, and why it is not counted as good, in words."""

from agent.domain.snapshot import Backup, Check, Level, Verification

NEEDED: tuple[Level, ...] = ("trailer", "structure", "fresh")
LADDER: tuple[Level, ...] = (*NEEDED, "stored", "content", "drill")


def highest_passed(backup: Backup) -> Check | None:
    """The check of the highest level that passed, the latest of several; None when none did.

    Of later verifications those that found damage elsewhere count for nothing.
    """
    passed = [
        check
        for checks in (backup.manifest.checks, *(one.checks for one in backup.verifications if one.passed))
        for check in checks
        if check.outcome == "passed"
    ]
    return max(passed, key=lambda check: (LADDER.index(check.level), check.checked_at), default=None)


def last_read_back(backup: Backup) -> str:
    """When all of it was last read out of the store and found right; empty when it never was."""
    moments = (one.checked_at for one in backup.verifications if one.passed and one.level != "content")
    return max(moments, default="")


def found_damaged(backup: Backup) -> str:
    """When it was first found damaged in the store; empty when it was not."""
    return _first_against(backup, of_content=False)


def found_different(backup: Backup) -> str:
    """When another member was first found to hold other data at its revision; empty when none was."""
    return _first_against(backup, of_content=True)


def _first_against(backup: Backup, *, of_content: bool) -> str:
    against = (one for one in backup.verifications if one.speaks_against and (one.level == "content") is of_content)
    return min((one.checked_at for one in against), default="")


def why_not_good(backup: Backup) -> list[str]:
    """What speaks against a backup; empty where `Backup.is_good` holds, and only there."""
    outcomes = {check.level: check.outcome for check in backup.manifest.checks}
    reasons = [f"{level} {outcomes.get(level, 'not checked')}" for level in NEEDED if outcomes.get(level) != "passed"]
    if outcomes.get("stored") not in ("passed", "unavailable"):
        reasons.append(f"stored {outcomes.get('stored', 'not checked')}")
    reasons += [
        f"{_found(record)} {record.checked_at}: {record.message or 'no reason given'}"
        for record in backup.verifications
        if record.speaks_against
    ]
    return reasons


def _found(record: Verification) -> str:
    return "content differs, found" if record.level == "content" else "found damaged"
