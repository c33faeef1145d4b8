"""Our keys in etcd, on each version: a write only where nobody wrote since, and any text as it was."""

import pytest

from agent.adapters.etcdctl_keys import EtcdctlKeys
from agent.domain import slots
from agent.domain.slots import SlotRecord
from agent.operations import slot_record
from tests.etcd_versions.servers import Servers

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
KEY = "/etcd-agent/v1/slot"
ODD_NODE = "a \"node\" with 'quotes', a \\ and ümläute 😀 $(reboot) `x`"


@pytest.fixture
def keys(server: Servers) -> EtcdctlKeys:
    made = EtcdctlKeys(server.client._config, server.client._find)
    server.put(KEY, "")
    return made


def test_a_key_that_is_not_there_has_revision_0_and_can_be_made_once(server: Servers, keys: EtcdctlKeys) -> None:
    key = "/etcd-agent/v1/absent"
    assert keys.get(key).mod_revision == 0
    assert keys.put_if_unchanged(key, 0, b"first")
    assert not keys.put_if_unchanged(key, 0, b"second")
    assert keys.get(key).value == b"first"


def test_only_who_saw_the_last_change_writes(keys: EtcdctlKeys) -> None:
    seen = keys.get(KEY)
    assert keys.put_if_unchanged(KEY, seen.mod_revision, b"mine")
    assert not keys.put_if_unchanged(KEY, seen.mod_revision, b"late")
    assert keys.get(KEY).value == b"mine"
    assert keys.get(KEY).mod_revision > seen.mod_revision


def test_a_record_comes_back_whatever_its_nodes_name_is(keys: EtcdctlKeys) -> None:
    record = SlotRecord(7, "claimed", ODD_NODE, "", "1" * 32, "snapshot-0123456789abcdef", 1e9)
    assert keys.put_if_unchanged(KEY, keys.get(KEY).mod_revision, slots.encode(record))
    assert slot_record.read(keys).record == record


def test_what_is_no_record_counts_as_none_and_can_be_written_over(server: Servers, keys: EtcdctlKeys) -> None:
    server.put(KEY, "somebody else's")
    seen = slot_record.read(keys)
    assert seen.record is None
    assert keys.put_if_unchanged(KEY, seen.mod_revision, b"{}")


def test_all_keys_below_a_name_come_with_their_own_revision_and_no_other_does(
    server: Servers, keys: EtcdctlKeys
) -> None:
    prefix = "/etcd-agent/v1/below/"
    first, second = server.put(f"{prefix}a", "1"), server.put(f"{prefix}ümläut", "2")
    server.put("/etcd-agent/v1/below", "3")
    server.put("/etcd-agent/v1/below0", "4")
    found = keys.below(prefix)
    assert {key: (one.value, one.mod_revision) for key, one in found.items()} == {
        f"{prefix}a": (b"1", first),
        f"{prefix}ümläut": (b"2", second),
    }
    assert keys.below("/etcd-agent/v1/nothing/") == {}
