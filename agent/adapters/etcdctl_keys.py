"""Our keys in etcd by short calls of etcdctl: `get` and `txn`, values by standard input and never in arguments or logs.

The format of what `etcdctl txn` reads, and of its JSON, as measured with 3.4 to 3.7: compares, an empty line, what is
done then, an empty line, what is done else, an empty line. Words in double quotes are Go strings.
"""

import json

import msgspec

from agent.adapters.etcdctl import Count, Etcdctl
from agent.ports import KeyValue

MOST_VALUE_BYTES = 4096


class _Value(msgspec.Struct):
    key: bytes = b""  # base64 in the JSON, as the value is
    value: bytes = b""
    mod_revision: Count = 0


class _Got(msgspec.Struct):
    kvs: list[_Value] = []


class _Transacted(msgspec.Struct):
    succeeded: bool = False


class EtcdctlKeys(Etcdctl):
    """Keys through the local member. Errors: EtcdError's family, CommandTimeout, CommandMissing."""

    def get(self, key: str) -> KeyValue:
        """A linearizable read."""
        answer: _Got = self._json(["get", key, "--consistency=l"], _Got)
        return KeyValue(answer.kvs[0].value, answer.kvs[0].mod_revision) if answer.kvs else KeyValue(b"", 0)

    def below(self, prefix: str) -> dict[str, KeyValue]:
        """Every key that begins so, by its whole name; a linearizable read. A name that is no text is left out."""
        answer: _Got = self._json(["get", prefix, "--prefix", "--consistency=l"], _Got)
        found = ((one.key.decode("utf-8", "replace"), one) for one in answer.kvs)
        return {key: KeyValue(one.value, one.mod_revision) for key, one in found if "\ufffd" not in key}

    def put_if_unchanged(self, key: str, mod_revision: int, value: bytes) -> bool:
        """Writes if the key's last change is still that one; False when it is not. The value is one line of ASCII."""
        text = value.decode("ascii")
        if len(text) > MOST_VALUE_BYTES or not text.isprintable():
            raise ValueError(f"a value of {len(text)} characters, or not in one line, is not for etcd")
        # A JSON string of ASCII escapes quotes and backslashes as a Go string does, and has nothing else to escape.
        lines = (f'mod({json.dumps(key)}) = "{mod_revision}"', "", f"put {json.dumps(key)} {json.dumps(text)}", "", "")
        stdin = "\n".join((*lines, ""))
        answer: _Transacted = self._json(["txn"], _Transacted, stdin=stdin)
        return answer.succeeded
