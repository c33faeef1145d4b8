"""At most one check a day asks a member: by a name that only one node gets, and by the time of the one before."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import content_claim
from agent.domain.content_claim import Claim
from agent.domain.request import format_moment
from agent.errors import SnapshotInvalid

NOW = datetime(2026, 1, 31, 0, 0, 30, tzinfo=UTC)
SECONDS = st.integers(-3 * 86400, 3 * 86400)


def claim(ago: timedelta, op_id: str = "verify-other") -> Claim:
    return Claim(op_id, format_moment(NOW - ago))


@given(st.lists(SECONDS, max_size=4), st.booleans())
def test_nobody_asks_within_a_day_of_another_nor_by_force_within_minutes(ages_s: list[int], forced: bool) -> None:
    claims = [claim(timedelta(seconds=age_s)) for age_s in ages_s]
    finding = content_claim.too_soon(claims, "verify-own-1", NOW, forced=forced)
    apart_s = 900 if forced else 86400
    assert (finding is not None) is any(abs(age_s) < apart_s for age_s in ages_s)
    if finding is not None:
        assert finding.rule == "content-too-soon"


def test_ones_own_claim_stands_in_nobodys_way() -> None:
    """An attempt that was killed after it goes on."""
    own = claim(timedelta(minutes=1), "verify-own-1")
    assert content_claim.too_soon([own], "verify-own-1", NOW, forced=False) is None


@given(SECONDS)
def test_every_claim_that_matters_is_among_the_recent_ones(age_s: int) -> None:
    then = NOW - timedelta(seconds=age_s)
    keys = [content_claim.key("prod", then), content_claim.key("prod", then, forced_op_id="verify-1234")]
    if abs(age_s) < 86400:
        assert content_claim.recent(keys, NOW) == keys
    if abs(age_s) >= 2 * 86400:
        assert content_claim.recent(keys, NOW) == []


def test_the_nodes_of_one_day_use_one_name_and_one_that_is_forced_its_own() -> None:
    assert content_claim.key("prod", NOW) == "coordination/prod/content/20260131.json"
    assert content_claim.key("prod", NOW, forced_op_id="verify-1") == "coordination/prod/content/20260131-verify-1.json"
    assert content_claim.key("prod", NOW).startswith(content_claim.folder("prod"))


def test_a_claim_survives_its_file() -> None:
    made = claim(timedelta())
    assert content_claim.decode(content_claim.encode(made), "key") == made


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 9999, b'{"op_id":"x","claimed_at":"2026-01-31T00:00:00Z"}',
     b'{"op_id":"verify-1","claimed_at":"2026-02-31T00:00:00Z"}'],
)  # fmt: skip
def test_a_damaged_claim_is_told(content: bytes) -> None:
    with pytest.raises(SnapshotInvalid, match="the key can not be read"):
        content_claim.decode(content, "the key")
