"""Leases and transactions on each version: what the lock of a membership change will stand on."""

import itertools
from collections.abc import Iterator

import pytest

from agent.adapters.etcdctl_keys import EtcdctlKeys
from agent.adapters.etcdctl_leases import EtcdctlLeases
from agent.domain import change_lock
from agent.domain.change_lock import INTENT_KEY, LEASE_S, LOCK_KEY
from agent.domain.cluster import AlarmKind, hex_id
from agent.domain.key_txn import Compare, Delete, KeyTxn, Put
from agent.domain.verdict import Step
from agent.errors import EtcdError
from tests.etcd_versions.servers import Servers

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
PORTS = itertools.count(1)
NOBODY = 0x7FFFFFFFFFFFFFFF


@pytest.fixture
def leases(server: Servers) -> Iterator[EtcdctlLeases]:
    made = EtcdctlLeases(server.config)
    yield made
    made.transact(KeyTxn((), (Delete(LOCK_KEY), Delete(INTENT_KEY))))


def add_learner(server: Servers) -> None:
    """At a URL of its own each time: the id comes of URL and second, and one that was removed is never taken again."""
    server.etcdctl("member", "add", "later", "--learner", f"--peer-urls=https://127.0.0.9:{next(PORTS)}")


def lock(leases: EtcdctlLeases, lease_id: int, holder: bytes = b"i-1") -> bool:
    return leases.transact(KeyTxn((Compare(LOCK_KEY, 0, "create"),), (Put(LOCK_KEY, holder, lease_id),)))


def test_one_gets_the_lock_and_it_goes_with_its_lease(leases: EtcdctlLeases) -> None:
    first, second = leases.grant(LEASE_S), leases.grant(LEASE_S)
    assert lock(leases, first)
    assert not lock(leases, second)
    assert leases.keep_alive(first)
    assert leases.revoke(first)
    assert leases.create_revision(LOCK_KEY) == 0
    assert lock(leases, second)
    assert leases.revoke(second)


def test_the_holder_is_known_by_the_revision_that_created_the_lock(leases: EtcdctlLeases) -> None:
    lease_id = leases.grant(LEASE_S)
    assert lock(leases, lease_id)
    held = leases.create_revision(LOCK_KEY)
    again = Put(LOCK_KEY, b"i-1", lease_id)
    assert leases.transact(KeyTxn((Compare(LOCK_KEY, held, "create"),), (again,)))
    assert leases.create_revision(LOCK_KEY) == held
    assert leases.transact(KeyTxn((Compare(LOCK_KEY, held, "create"),), (again,)))
    assert not leases.transact(KeyTxn((Compare(LOCK_KEY, held),), (again,)))
    leases.revoke(lease_id)


@pytest.mark.parametrize("kind", [AlarmKind.NOSPACE, AlarmKind.CORRUPT])
def test_under_an_alarm_no_lock_can_be_had_and_reads_and_member_changes_work(
    server: Servers, leases: EtcdctlLeases, kind: AlarmKind
) -> None:
    """So the guard refuses changes under NOSPACE, and a CORRUPT member can not be removed under the lock."""
    before = leases.grant(LEASE_S)
    member_id = server.client.status().member_id
    server.alarm("ACTIVATE", member_id, kind.name)
    try:
        with pytest.raises(EtcdError):
            leases.grant(LEASE_S)
        with pytest.raises(EtcdError):
            lock(leases, before)
        assert leases.create_revision(LOCK_KEY) == 0
        add_learner(server)
        (learner,) = [one for one in leases.members() if one.is_learner]
        server.etcdctl("member", "remove", hex_id(learner.member_id))
    finally:
        server.alarm("DEACTIVATE", member_id, kind.name)
    assert not any(one.is_learner for one in leases.members())
    leases.revoke(before)


def test_an_alarm_outlives_the_removal_of_its_member(server: Servers, leases: EtcdctlLeases) -> None:
    """So after a CORRUPT member was removed, the cluster takes no writes until somebody disarms."""
    add_learner(server)
    (learner,) = [one for one in leases.members() if one.is_learner]
    server.alarm("ACTIVATE", learner.member_id, "CORRUPT")
    try:
        server.etcdctl("member", "remove", hex_id(learner.member_id))
        assert [alarm.member_id for alarm in leases.alarms()] == [learner.member_id]
        with pytest.raises(EtcdError):
            leases.grant(LEASE_S)
    finally:
        server.alarm("DEACTIVATE", learner.member_id, "CORRUPT")
    assert leases.revoke(leases.grant(LEASE_S))


def test_a_lease_that_ended_is_told_and_takes_no_key(leases: EtcdctlLeases) -> None:
    ended = leases.grant(LEASE_S)
    assert leases.revoke(ended)
    for lease_id in (ended, NOBODY):
        assert not leases.keep_alive(lease_id)
        assert not leases.revoke(lease_id)
    with pytest.raises(EtcdError):
        lock(leases, ended)
    assert leases.create_revision(LOCK_KEY) == 0


def test_a_lease_ends_by_itself(leases: EtcdctlLeases) -> None:
    short = leases.grant(1)
    assert lock(leases, short)
    while leases.create_revision(LOCK_KEY):  # etcd ends it when it looks next, at the latest some seconds after
        pass
    assert not leases.keep_alive(short)


def test_a_former_holder_writes_and_removes_no_intent(server: Servers, leases: EtcdctlLeases) -> None:
    members = tuple(leases.members())
    step = Step("remove", members[0].member_id, "")
    intent = change_lock.intent_of(
        step, members, "operator", op_id="retire-0123456789abcdef", executor='i-1 "odd" \\ \u00fc', trace_id="7" * 32
    )
    former = leases.grant(LEASE_S)
    assert lock(leases, former)
    held = leases.create_revision(LOCK_KEY)
    announce = KeyTxn(
        (Compare(LOCK_KEY, held, "create"), Compare(INTENT_KEY, 0)), (Put(INTENT_KEY, change_lock.encode(intent)),)
    )
    assert leases.transact(announce)
    assert not leases.transact(announce)
    written = EtcdctlKeys(server.config).get(INTENT_KEY)
    assert change_lock.decode(written.value) == intent
    leases.revoke(former)
    remove = KeyTxn(
        (Compare(LOCK_KEY, held, "create"), Compare(INTENT_KEY, written.mod_revision)), (Delete(INTENT_KEY),)
    )
    assert not leases.transact(remove)
    following = leases.grant(LEASE_S)
    assert lock(leases, following)
    assert not leases.transact(remove)
    assert EtcdctlKeys(server.config).get(INTENT_KEY) == written
    leases.revoke(following)


@pytest.mark.parametrize("value", [b"two\nlines", b"--lease=1", b"x" * 5000])
def test_a_value_that_etcdctl_would_misread_is_not_sent(leases: EtcdctlLeases, value: bytes) -> None:
    with pytest.raises(ValueError, match="not for etcd"):
        leases.transact(KeyTxn((), (Put(LOCK_KEY, value),)))
