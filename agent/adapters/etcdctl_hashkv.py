"""What `etcdctl endpoint hashkv -w json` prints, as a typed answer."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from agent.domain.hash_kv import HashKV
from agent.errors import EtcdAnswerInvalid

COMPACTED = "required revision has been compacted"

Hash = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
MaybeRevision = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]  # -1 where nothing was ever compacted


class _Header(msgspec.Struct):
    member_id: Annotated[int, msgspec.Meta(ge=0)] = 0


class _HashKV(msgspec.Struct):
    header: _Header
    hash: Hash = 0  # fields that are 0 are left out
    compact_revision: MaybeRevision = 0
    hash_revision: MaybeRevision | None = None  # from 3.6 on


class EndpointHashKV(msgspec.Struct):
    """One row of the answer."""

    Endpoint: str
    HashKV: _HashKV


def the_one(answers: Sequence[EndpointHashKV], endpoint: str) -> HashKV:
    """The answer of the endpoint that was asked. Raises EtcdAnswerInvalid."""
    if len(answers) != 1:
        raise EtcdAnswerInvalid(f"`etcdctl endpoint hashkv` on {endpoint} gave {len(answers)} answers, not one")
    found = answers[0].HashKV
    return HashKV(found.hash, found.compact_revision, found.hash_revision, found.header.member_id)
