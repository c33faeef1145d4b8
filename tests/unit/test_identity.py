"""Who runs which member: two sources that agree, gone, or unknown; and attempts to have the wrong one named."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.cluster import Member, hex_id
from agent.domain.identity import (
    Gone,
    Instance,
    Mapped,
    Registered,
    Registry,
    Unknown,
    by_hand,
    holder_of,
    identify,
    states_of,
)
from agent.domain.member_record import NodeRecord, Record, Tombstone, decode, encode, key
from agent.domain.membership import InstanceState
from agent.errors import BadInput

CLUSTER = 0xC1
TRACE = "1" * 32
MEMBERS = tuple(
    Member(0xA0 + n, f"m{n}", (f"https://10.0.0.{n}:2380",), (f"https://10.0.0.{n}:2379",), False) for n in (1, 2, 3)
)


def record(instance: str, member: int, cluster: int = CLUSTER) -> NodeRecord:
    member_id = hex_id(0xA0 + member) if member else ""
    return NodeRecord(
        instance, hex_id(cluster), member_id, (), f"node-{instance}", (), "a", "1", "2026-11-24T12:00:00Z", TRACE
    )


def tombstone(instance: str, cluster: int = CLUSTER) -> Tombstone:
    return Tombstone(instance, hex_id(cluster), "a1", "2026-11-24T12:00:00Z", "retire-0123456789abcdef", TRACE)


def instance(name: str, state: InstanceState = "running", ip: int = 0, kubernetes_ip: int = 0) -> Instance:
    def address(last: int) -> frozenset[str]:
        return frozenset({f"10.0.0.{last}"} if last else ())

    return Instance(name, state, address(ip), address(kubernetes_ip))


def registry(*known: Record | Instance, complete: bool = True) -> Registry:
    """Records in the order in which they were written."""
    records = {one.instance_id: Registered(one, at) for at, one in enumerate(known, 1) if not isinstance(one, Instance)}
    instances = {one.instance_id: one for one in known if isinstance(one, Instance)}
    return Registry(CLUSTER, MEMBERS, records, instances, complete)


def test_two_sources_that_agree_map_and_one_does_not() -> None:
    found = identify("i-1", registry(record("i-1", 1), instance("i-1", ip=1)))
    assert found == Mapped(0xA1, ("record", "private address"))
    assert isinstance(identify("i-1", registry(record("i-1", 1))), Unknown)
    assert isinstance(identify("i-1", registry(instance("i-1", ip=1))), Unknown)
    assert isinstance(identify("i-1", registry(instance("i-1", "terminated", ip=1, kubernetes_ip=1))), Mapped)
    assert isinstance(identify("i-1", registry()), Unknown)


def test_a_peer_url_that_carries_the_instances_id_is_a_source() -> None:
    named = replace(MEMBERS[0], peer_urls=("https://i-1.eu-west-1.compute.internal:2380",))
    known = replace(registry(record("i-1", 1)), members=(named, *MEMBERS[1:]))
    assert identify("i-1", known) == Mapped(0xA1, ("record", "peer-URL host"))
    assert isinstance(identify("i-10", replace(known, records={})), Unknown)


@pytest.mark.parametrize(
    "known",
    [
        registry(record("i-1", 1), instance("i-1", ip=2, kubernetes_ip=1)),
        registry(record("i-1", 1), instance("i-1", ip=1, kubernetes_ip=2)),
        registry(record("i-1", 1), record("i-2", 1), instance("i-1", ip=1), instance("i-2")),
        registry(record("i-1", 1, cluster=CLUSTER + 1), instance("i-1", ip=1)),
        registry(record("i-1", 9), instance("i-1", ip=1)),
        registry(tombstone("i-1"), instance("i-1", ip=1, kubernetes_ip=1)),
    ],
    ids=[
        "address differs",
        "Kubernetes differs",
        "two records",
        "record of a former cluster",
        "not listed",
        "tombstone",
    ],
)
def test_what_contradicts_leaves_it_unknown(known: Registry) -> None:
    assert isinstance(identify("i-1", known), Unknown)


def test_a_new_instance_with_a_dead_ones_address_is_not_taken_for_it() -> None:
    """An address is used again: without a record of its own the new one would be named by EC2 and Kubernetes both."""
    known = registry(record("i-1", 1), instance("i-1", "terminated"), instance("i-2", ip=1, kubernetes_ip=1))
    assert isinstance(identify("i-2", known), Unknown)


def test_a_dead_ones_member_may_be_run_by_who_has_its_address_until_that_ones_agent_says_no() -> None:
    dead = (record("i-1", 1), instance("i-1", "terminated", kubernetes_ip=1))
    assert isinstance(identify("i-1", registry(*dead, instance("i-2", ip=1))), Unknown)
    assert isinstance(identify("i-1", registry(*dead, instance("i-2", ip=1), record("i-2", 0))), Mapped)
    assert isinstance(identify("i-1", registry(*dead, instance("i-2", ip=1), record("i-2", 2))), Mapped)


def test_whose_own_agent_says_that_none_runs_there_is_not_named_by_its_address() -> None:
    known = registry(record("i-2", 0), instance("i-2", ip=1, kubernetes_ip=1))
    assert isinstance(identify("i-2", known), Unknown)


def test_of_two_that_are_gone_and_had_one_address_neither_is_named_without_a_record() -> None:
    both = [instance(name, "terminated", ip=1, kubernetes_ip=1) for name in ("i-1", "i-2")]
    assert isinstance(identify("i-1", registry(*both)), Unknown)
    assert identify("i-1", registry(record("i-1", 1), *both)) == Mapped(
        0xA1, ("record", "private address", "Kubernetes node")
    )


def test_who_took_over_a_data_volume_is_mapped_and_its_former_owner_is_not() -> None:
    known = registry(record("i-1", 1), record("i-2", 1), instance("i-1", "terminated"), instance("i-2", ip=1))
    assert isinstance(identify("i-2", known), Mapped)
    assert isinstance(identify("i-1", known), Unknown)
    assert states_of(0xA1, known) == ("terminated", "running")  # so the member is not dead
    older = registry(record("i-2", 1), record("i-1", 1), instance("i-1", "terminated"), instance("i-2", ip=1))
    assert isinstance(identify("i-2", older), Unknown)


def test_gone_needs_a_tombstone_or_other_owners_of_every_member() -> None:
    assert isinstance(identify("i-1", registry(tombstone("i-1"))), Gone)
    assert isinstance(identify("i-1", registry(tombstone("i-1", cluster=CLUSTER + 1))), Unknown)
    owners: list[Record | Instance] = [record(f"i-{n}", n) for n in (1, 2, 3)]
    owners += [instance(f"i-{n}", ip=n) for n in (1, 2, 3)]
    assert isinstance(identify("i-9", registry(*owners)), Gone)
    stopped = [one for one in owners if one.instance_id != "i-3" or not isinstance(one, Instance)]
    assert isinstance(identify("i-9", registry(*stopped, instance("i-3", "stopped", ip=3))), Unknown)
    assert isinstance(identify("i-9", replace(registry(*owners), members=())), Unknown)


def test_by_hand_takes_the_id_and_one_thing_more_that_agrees() -> None:
    known = registry(record("i-1", 1), instance("i-2", ip=2))
    for other in ("i-1", "m1", "10.0.0.1", "https://10.0.0.1:2380", "node-i-1"):
        assert by_hand(0xA1, other, known) == Mapped(0xA1, ("member id", other)), other
    for other in ("", "i-2", "m2", "10.0.0.2", "10.0.0.9", "a1"):
        assert isinstance(by_hand(0xA1, other, known), Unknown), other
    told = by_hand(0xBEEF, "i-1", known)
    assert isinstance(told, Unknown)
    assert "a1 m1 at https://10.0.0.1:2380" in told.remedy


def test_a_peer_host_is_nobodys_only_when_everybody_was_asked() -> None:
    assert holder_of(MEMBERS[0], registry(instance("i-1", ip=1))) == "live"
    assert holder_of(MEMBERS[0], registry(instance("i-1", "stopped", ip=1))) == "live"
    assert holder_of(MEMBERS[0], registry(instance("i-1", "terminated", ip=1))) == "nobody"
    assert holder_of(MEMBERS[0], registry(complete=False)) == "unknown"


numbers = st.integers(0, 3)
STATES: tuple[InstanceState, ...] = ("running", "stopped", "terminated", "not-found", "not-asked")


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    known: list[Record | Instance] = []
    for n in draw(st.permutations(range(1, 5))):
        name = f"i-{n}"
        kind = draw(st.sampled_from(["record", "tombstone", "none"]))
        if kind != "none":
            known.append(record(name, draw(numbers)) if kind == "record" else tombstone(name))
        if draw(st.booleans()):
            known.append(instance(name, draw(st.sampled_from(STATES)), draw(numbers), draw(numbers)))
    return registry(*known)


@given(registries())
def test_no_member_is_mapped_to_two_instances_and_none_to_one_that_is_gone(known: Registry) -> None:
    found = {name: identify(name, known) for name in ("i-1", "i-2", "i-3", "i-4")}
    mapped = [one.member_id for one in found.values() if isinstance(one, Mapped)]
    assert len(mapped) == len(set(mapped))
    for name, one in found.items():
        if isinstance(one, Mapped):
            assert len(one.sources) >= 2
            assert not isinstance(known.record(name), Tombstone)


def replace_text(one: NodeRecord, node_name: str) -> NodeRecord:
    return msgspec.structs.replace(one, node_name=node_name)


def test_records_are_read_as_they_were_written() -> None:
    odd = replace_text(record("i-1", 1), 'ümläute 😀 \n "')
    for one in (record("i-1", 1), record("i-1", 0), tombstone("i-1"), odd):
        assert encode(one).decode("ascii").isprintable()
        assert decode(key("i-1"), encode(one)) == one
    assert decode(key("i-2"), encode(record("i-1", 1))) is None
    assert decode(key("i-1"), encode(record("i-1", 1)).replace(b'"schema":1', b'"schema":1,"later":2')) is not None
    assert decode(key("i-1"), encode(record("i-1", 1)).replace(b'"schema":1', b'"schema":2')) is None
    assert decode(key("i-1"), b"[" * 5000) is None
    assert decode(key("i-1"), b" " * 20_000 + encode(record("i-1", 1))) is None
    with pytest.raises(BadInput):
        key("i-1/../policy")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_none(value: bytes) -> None:
    assert decode(key("i-1"), value) is None
