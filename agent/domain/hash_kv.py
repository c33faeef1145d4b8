"""etcd's HashKV: what a member or a snapshot file answers, and what two answers say of each other.

It is a CRC over all entries of the key space up to a revision, less those that the last compaction lets go. So it
depends on the compact revision too, and only hashes of one revision *and* one compact revision can be compared
(etcd's server/storage/mvcc/hash.go).
"""

from dataclasses import dataclass
from typing import Literal

from agent.domain.etcd_tools import same_minor

Comparison = Literal["passed", "failed", "not_comparable"]


@dataclass(frozen=True)
class HashKV:
    """One answer. `hash_revision` is None where the version does not tell it (3.4, 3.5); `member_id` 0 for a file.

    `compact_revision` is -1 where nothing was ever compacted.
    """

    hash: int
    compact_revision: int
    hash_revision: int | None = None
    member_id: int = 0


@dataclass(frozen=True)
class Hashed:
    """An answer with whose it is, for people, and the version of the program that made it."""

    name: str
    version: str
    answer: HashKV


@dataclass(frozen=True)
class Compared:
    """What came of a comparison, and what exactly was compared."""

    outcome: Comparison
    note: str


def compare(one: Hashed, other: Hashed, revision: int) -> Compared:
    """What two hashes, both asked for at `revision`, say of each other.

    A difference counts only where nothing but the data can have made it: with the same release on both sides. Equal
    hashes of one minor version are equal data.
    """
    obstacle = _obstacle(one, other, revision)
    if obstacle:
        return Compared("not_comparable", obstacle)
    both = f"{one.name} and {other.name}"
    if one.answer.hash == other.answer.hash:
        return Compared("passed", f"{both} agree at revision {revision}: HashKV {one.answer.hash:08x}")
    hashes = f"HashKV {one.answer.hash:08x} and {other.answer.hash:08x}"
    if one.version != other.version:
        return Compared(
            "not_comparable",
            f"{both} have different hashes at revision {revision}, but made by {one.version} and {other.version}, "
            f"which only says something where the release is the same: {hashes}",
        )
    return Compared("failed", f"{both} DIFFER at revision {revision}: {hashes}")


def _obstacle(one: Hashed, other: Hashed, revision: int) -> str:
    if not same_minor(one.version, other.version):
        return f"{one.name} was hashed by {one.version}, {other.name} by {other.version}: not the same minor version"
    for side in (one, other):
        if side.answer.hash_revision not in (None, revision):
            return f"{side.name} was hashed at revision {side.answer.hash_revision}, not at {revision}"
    if one.answer.compact_revision != other.answer.compact_revision:
        return (
            f"{one.name} is compacted up to revision {one.answer.compact_revision}, "
            f"{other.name} up to {other.answer.compact_revision}: their hashes can not be compared"
        )
    return ""
