"""Leases, and transactions under them, by short calls of etcdctl: what the lock of a membership change is made of.

Never `etcdctl lock`: it goes on when its owner is killed. Leases are decimal in the JSON and hex on the command line.
"""

import json
from collections.abc import Iterator

import msgspec

from agent.adapters.etcdctl import Count, Etcdctl
from agent.adapters.etcdctl_keys import MOST_VALUE_BYTES
from agent.domain.key_txn import Compare, Delete, KeyTxn, Put
from agent.errors import EtcdAnswerInvalid, EtcdError

LEASE_GONE = "requested lease not found"


class _Lease(msgspec.Struct):
    ID: Count = 0
    ttl: int = 0


class _Entry(msgspec.Struct):
    value: bytes = b""  # base64 in the JSON
    create_revision: Count = 0
    mod_revision: Count = 0
    lease: Count = 0


class _Got(msgspec.Struct):
    kvs: list[_Entry] = []


class _Transacted(msgspec.Struct):
    succeeded: bool = False


class EtcdctlLeases(Etcdctl):
    """Leases through the local member. Errors: EtcdError's family, CommandTimeout, CommandMissing."""

    def grant(self, ttl_s: int) -> int:
        """A new lease's id. Its time runs from before this returns. Under NOSPACE etcd grants none: EtcdError."""
        lease: _Lease = self._json(["lease", "grant", str(ttl_s)], _Lease)
        if not lease.ID:
            raise EtcdAnswerInvalid(f"`etcdctl lease grant` on {self.endpoint} gave no lease")
        return lease.ID

    def keep_alive(self, lease_id: int) -> bool:
        """Begins the lease's time anew, once. False when it has ended."""
        return self._on_lease(["lease", "keep-alive", "--once", format(lease_id, "x")])

    def revoke(self, lease_id: int) -> bool:
        """Ends the lease, and its keys with it. False when it has ended already."""
        return self._on_lease(["lease", "revoke", format(lease_id, "x")])

    def create_revision(self, key: str) -> int:
        """The revision that created the key, by a linearizable read; 0 where there is none."""
        answer: _Got = self._json(["get", key, "--consistency=l"], _Got)
        return answer.kvs[0].create_revision if answer.kvs else 0

    def transact(self, txn: KeyTxn) -> bool:
        """Does all of it, or nothing: then False. A put under a lease that ended is an EtcdError."""
        lines = [*map(_compare, txn.compares), "", *_writes(txn), "", "", ""]
        answer: _Transacted = self._json(["txn"], _Transacted, stdin="\n".join(lines))
        return answer.succeeded

    def _on_lease(self, arguments: list[str]) -> bool:
        try:
            self._json(arguments, dict)
        except EtcdError as error:
            if LEASE_GONE in error.message:
                return False
            raise
        return True


def _compare(compare: Compare) -> str:
    return f'{compare.of}({json.dumps(compare.key)}) = "{compare.revision}"'


def _writes(txn: KeyTxn) -> Iterator[str]:
    for write in txn.writes:
        yield f"del {json.dumps(write.key)}" if isinstance(write, Delete) else _put(write)


def _put(write: Put) -> str:
    text = write.value.decode("ascii")
    if len(text) > MOST_VALUE_BYTES or not text.isprintable() or text.startswith("-"):
        raise ValueError(f"a value of {len(text)} characters, not in one line or like a flag, is not for etcd")
    lease = f" --lease={write.lease_id:x}" if write.lease_id else ""
    # A JSON string of ASCII escapes quotes and backslashes as a Go string does, and has nothing else to escape.
    return f"put {json.dumps(write.key)} {json.dumps(text)}{lease}"
