"""The claim of an operation that is about to ask a member for its HashKV: at most one a day and cluster.

It lies in the store, where every node sees it. A node can not take it back, so it is written when nothing else stands
against asking.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from agent.domain.cluster import Finding
from agent.domain.request import Moment, OpId, parse_moment
from agent.errors import BadInput, SnapshotInvalid

APART = timedelta(hours=24)
FORCED_APART = timedelta(minutes=15)  # longer than one check may ask: two at once would be two members that stall


class Claim(msgspec.Struct, frozen=True):
    """Who asks, and since when."""

    op_id: OpId
    claimed_at: Moment
    schema: int = 1


def folder(cluster: str) -> str:
    """Where the claims of a cluster lie in the store."""
    return f"coordination/{cluster}/content/"


def key(cluster: str, now: datetime, *, forced_op_id: str = "") -> str:
    """One name for each day (UTC), so that of several nodes one gets it. A forced claim has a name of its own."""
    return f"{folder(cluster)}{now:%Y%m%d}{f'-{forced_op_id}' if forced_op_id else ''}.json"


def recent(keys: Iterable[str], now: datetime) -> list[str]:
    """Those of the keys that may be less than 24 hours from now: of the day before, of today and of the next one."""
    days = {f"{now + timedelta(days=shift):%Y%m%d}" for shift in (-1, 0, 1)}
    return [one for one in keys if one.rpartition("/")[2][:8] in days]


def too_soon(claims: Iterable[Claim], own_op_id: str, now: datetime, *, forced: bool) -> Finding | None:
    """What stands against asking now: another operation that asked, or is about to, too short a time ago.

    A claim of a time to come counts too, since one of the two clocks is wrong.
    """
    apart = FORCED_APART if forced else APART
    for claim in claims:
        if claim.op_id != own_op_id and abs(now - parse_moment(claim.claimed_at)) < apart:
            return Finding(
                "content-too-soon",
                f"{claim.op_id} asked a member for its hash at {claim.claimed_at}, which stalls that member's writes; "
                f"between two such checks of one cluster lie {'15 minutes' if forced else '24 hours'}",
                "wait for that one's end" if forced else "wait until then, or ask all the same by --force",
            )
    return None


def encode(claim: Claim) -> bytes:
    """The bytes of its object."""
    return msgspec.json.encode(claim) + b"\n"


def decode(content: bytes, name: str) -> Claim:
    """Reads a claim. Raises SnapshotInvalid."""
    try:
        claim = msgspec.json.decode(content, type=Claim)
        parse_moment(claim.claimed_at)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadInput) as error:
        hint = "no member is asked while it is not known when one was asked last; remove that small object"
        raise SnapshotInvalid(f"{name} can not be read: {error}", hint=hint) from None
    return claim
