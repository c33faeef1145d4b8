"""Whether the manifest in the store is the one that was sent: ours altered, ours confirmed later, or another's."""

from typing import Any

import msgspec
import pytest

from agent.domain.arrival import is_altered, is_altered_draft
from agent.domain.snapshot import Check, Manifest, StoredData
from tests.unit.test_snapshot_domain import manifest

LATER = "2026-01-31T13:00:00Z"
OTHERS_KEY = manifest().data.key.replace("89abcdef", "01234567")
SENT = manifest()
DRAFT = msgspec.structs.replace(
    SENT, retention_class="hourly", data=StoredData("", SENT.data.size_bytes, SENT.data.sha256), checks=SENT.checks[:-1]
)


def altered(**changes: Any) -> Manifest:
    return msgspec.structs.replace(SENT, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"raw_sha256": "0" * 64}, {"raw_size_bytes": 1}, {"revision": 22}, {"fingerprints": {}}, {"node": "node-2"},
        {"started_at": LATER}, {"checks": SENT.checks[1:]}, {"op_id": "another-op"},
        {"data": msgspec.structs.replace(SENT.data, sha256="0" * 64)},
        {"data": msgspec.structs.replace(SENT.data, key=OTHERS_KEY)},
        {"checks": (Check("trailer", "failed", SENT.checks[0].checked_at), *SENT.checks[1:])},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_differs_in_the_own_manifest_was_altered(changes: dict[str, Any]) -> None:
    assert is_altered(altered(**changes), SENT)


def test_the_own_one_as_it_was_sent_or_confirmed_at_another_time_is_right() -> None:
    again = altered(checks=(*SENT.checks[:-1], Check("stored", "passed", LATER)))
    for found in (SENT, again):
        assert not is_altered(found, SENT)
        assert not is_altered_draft(found, DRAFT)


def test_another_nodes_or_attempts_manifest_is_not_ours_altered() -> None:
    data = msgspec.structs.replace(SENT.data, key=OTHERS_KEY, sha256="5" * 64)
    for changes in ({"node": "node-2"}, {"started_at": LATER}, {"finished_at": LATER}):
        found = altered(data=data, raw_sha256="6" * 64, **changes)
        assert not is_altered(found, SENT)
        assert not is_altered_draft(found, DRAFT)


@pytest.mark.parametrize(
    "changes", [{"raw_sha256": "0" * 64}, {"data": msgspec.structs.replace(SENT.data, sha256="0" * 64)}], ids=str
)
def test_a_draft_knows_its_bytes(changes: dict[str, Any]) -> None:
    assert is_altered_draft(altered(**changes), DRAFT)
