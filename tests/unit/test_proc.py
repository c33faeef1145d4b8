"""The kernel's tables of /proc, as text that was taken from real machines (little-endian)."""

import sys
from ipaddress import ip_address

import pytest

from agent.domain import proc
from agent.domain.proc import Listener

LITTLE_ENDIAN = pytest.mark.skipif(sys.byteorder != "little", reason="the texts are of a little-endian machine")
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711
   1: 00000000:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4712
   2: 0100007F:094B 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 4713
   3: 0500000A:094C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4714
   4: cut off
"""
TCP6 = """\
  sl  local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
   0: 00000000000000000000000000000000:094B {}:0000 0A 0:0 00:0 0 0 0 4721
   1: 00000000000000000000000001000000:094B {}:0000 0A 0:0 00:0 0 0 0 4722
   2: 0000000000000000FFFF00000500000A:094B {}:0000 0A 0:0 00:0 0 0 0 4723
""".format(*["0" * 32] * 3)
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.5
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
Local:
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF_INET6 = (
    "fe80000000000000a8bbccfffeddeeff 02 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
)


def table() -> list[Listener]:
    return proc.listeners(TCP) + proc.listeners(TCP6)


@LITTLE_ENDIAN
def test_listening_sockets_are_read_and_no_others() -> None:
    assert [(str(one.address), one.port, one.inode) for one in table()] == [
        ("127.0.0.1", 2379, 4711), ("0.0.0.0", 2379, 4712), ("10.0.0.5", 2380, 4714),
        ("::", 2379, 4721), ("::1", 2379, 4722), ("10.0.0.5", 2379, 4723),
    ]  # fmt: skip


@LITTLE_ENDIAN
@pytest.mark.parametrize(
    "address, port, inode",
    [
        ("127.0.0.1", 2379, 4711),  # before the one for every address
        ("127.0.0.2", 2379, 4712),
        ("10.0.0.5", 2379, 4723),  # IPv4 by way of IPv6
        ("10.0.0.5", 2380, 4714),
        ("::1", 2379, 4722),
        ("fe80::1", 2379, 4721),
    ],
)
def test_the_most_exact_listener_serves_an_address(address: str, port: int, inode: int) -> None:
    assert proc.serving(table(), ip_address(address), port) == {inode}


@LITTLE_ENDIAN
def test_an_address_that_nothing_listens_on_is_served_by_nobody() -> None:
    assert proc.serving(table(), ip_address("127.0.0.1"), 2381) == frozenset()
    assert proc.serving(proc.listeners(TCP), ip_address("::1"), 2379) == frozenset()


@LITTLE_ENDIAN
def test_an_ipv6_socket_for_every_address_serves_ipv4_too_when_no_other_does() -> None:
    assert proc.serving(proc.listeners(TCP6), ip_address("127.0.0.1"), 2379) == {4721}


def test_the_machines_own_addresses_are_read() -> None:
    own = proc.local_addresses(FIB_TRIE, IF_INET6)
    assert {str(address) for address in own} == {"10.0.0.5", "127.0.0.1", "fe80::a8bb:ccff:fedd:eeff", "::1"}
    assert proc.is_local(ip_address("10.0.0.5"), own)
    assert proc.is_local(ip_address("127.9.9.9"), own)
    assert not proc.is_local(ip_address("10.0.0.255"), own)
    assert not proc.is_local(ip_address("10.0.0.6"), own)


@pytest.mark.parametrize("text", ["", "a\n", "a\nb\n", TCP.replace("0100007F", "zz")])
def test_what_is_no_table_has_no_such_listener(text: str) -> None:
    assert [one for one in proc.listeners(text) if one.inode == 4711] == []


@pytest.mark.parametrize(
    "endpoint, expected",
    [
        ("http://127.0.0.1:2379", ("127.0.0.1", 2379)),
        ("https://[::1]:2379", ("::1", 2379)),
        ("https://node-1.example:23790", ("node-1.example", 23790)),
    ],
)
def test_an_endpoint_has_host_and_port(endpoint: str, expected: tuple[str, int]) -> None:
    assert proc.endpoint_address(endpoint) == expected


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1", "http://:2379", "http://127.0.0.1:99999"])
def test_an_endpoint_without_them_is_none(endpoint: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
        proc.endpoint_address(endpoint)


@pytest.mark.parametrize(
    "link, inode",
    [("socket:[4711]", 4711), ("/srv/socket:[4711]", None), ("socket:[4711] (deleted)", None), ("pipe:[1]", None)],
)
def test_a_link_of_a_descriptor_names_a_socket_only_as_the_kernel_writes_it(link: str, inode: int | None) -> None:
    assert proc.socket_inode(link) == inode


def test_the_start_of_a_process_is_read_whatever_its_name() -> None:
    columns = " ".join(str(number) for number in range(4, 53))
    assert proc.start_ticks(f"7 (a) b) S {columns}") == 22
    with pytest.raises(ValueError, match="columns"):
        proc.start_ticks("7 (etcd) S 1")


def test_a_variable_is_found_whole() -> None:
    environ = b"XPATH=/no\0PATH=/a:/b\0PATHS=/no\0EMPTY=\0"
    assert proc.variable(environ, "PATH") == "/a:/b"
    assert proc.variable(environ, "EMPTY") == proc.variable(environ, "MISSING") == ""
