"""A transaction on our keys in etcd: all of its writes if every comparison holds, nothing else; and what values are."""

import json
from dataclasses import dataclass
from typing import Literal

import msgspec


@dataclass(frozen=True)
class Compare:
    """The revision that wrote a key last, or that created it, is this one; 0: there is no such key."""

    key: str
    revision: int
    of: Literal["mod", "create"] = "mod"


@dataclass(frozen=True)
class Put:
    """The value is one line of ASCII. With a lease the key goes when that ends."""

    key: str
    value: bytes
    lease_id: int = 0


@dataclass(frozen=True)
class Delete:
    """The key goes, if it is there."""

    key: str


@dataclass(frozen=True)
class KeyTxn:
    """What has to hold, and what is done then."""

    compares: tuple[Compare, ...]
    writes: tuple[Put | Delete, ...]


def one_line(record: msgspec.Struct) -> bytes:
    """A record as JSON in one line of ASCII, whatever is in its texts: what etcdctl reads must not be ambiguous."""
    return json.dumps(msgspec.to_builtins(record), separators=(",", ":")).encode("ascii")
