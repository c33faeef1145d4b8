"""Why a backup is not counted as good, in words; says nothing where `Backup.is_good` holds, and only there."""

from agent.domain.snapshot import Backup, Level

NEEDED: tuple[Level, ...] = ("trailer", "structure", "fresh")


def why_not_good(backup: Backup) -> list[str]:
    """What speaks against a backup, empty when it is good."""
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
