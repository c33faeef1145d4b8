"""How far a backup was verified, and why it is not counted as good, in words."""

from agent.domain.snapshot import Backup, Check, Level

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
    return max((one.checked_at for one in backup.verifications if one.passed), default="")


def found_damaged(backup: Backup) -> str:
    """When it was first found damaged in the store; empty when it was not."""
    return min((one.checked_at for one in backup.verifications if not one.passed), default="")


def why_not_good(backup: Backup) -> list[str]:
    """What speaks against a backup; empty where `Backup.is_good` holds, and only there."""
    outcomes = {check.level: check.outcome for check in backup.manifest.checks}
    reasons = [f"{level} {outcomes.get(level, 'not checked')}" for level in NEEDED if outcomes.get(level) != "passed"]
    if outcomes.get("stored") not in ("passed", "unavailable"):
        reasons.append(f"stored {outcomes.get('stored', 'not checked')}")
    reasons += [
        f"found damaged {verification.checked_at}: {verification.message or 'no reason given'}"
        for verification in backup.verifications
        if not verification.passed
    ]
    return reasons
