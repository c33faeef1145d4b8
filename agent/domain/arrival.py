"""Whether a manifest that is found in the store is the one that was sent there, another one, or neither."""

import msgspec

from agent.domain.snapshot import Manifest


def is_altered(found: Manifest, sent: Manifest) -> bool:
    """Whether it is the same attempt's manifest and yet says something else. Another attempt's or node's is not.

    The time at which the store confirmed is no difference: a later try to send the same bytes has its own.
    """
    is_same_attempt = found.data.key == sent.data.key or _attempt(found) == _attempt(sent)
    return is_same_attempt and _facts(found) != _facts(sent)


def is_altered_draft(found: Manifest, draft: Manifest) -> bool:
    """The same for a draft, which knows its bytes but not what only the store tells of them."""
    confirmed = tuple(check for check in found.checks if check.level == "stored")
    data = msgspec.structs.replace(draft.data, key=found.data.key, version_id=found.data.version_id)
    completed = msgspec.structs.replace(
        draft, retention_class=found.retention_class, data=data, checks=(*draft.checks, *confirmed)
    )
    return _attempt(found) == _attempt(draft) and is_altered(found, completed)


def _attempt(manifest: Manifest) -> tuple[str, str, str]:
    return manifest.node, manifest.started_at, manifest.finished_at


def _facts(manifest: Manifest) -> Manifest:
    checks = tuple(msgspec.structs.replace(check, checked_at="") for check in manifest.checks)
    return msgspec.structs.replace(manifest, checks=checks)
