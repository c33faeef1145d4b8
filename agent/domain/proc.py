"""What the kernel's text files of /proc say, as data. Numbers and layouts: proc(5), Documentation/networking."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
LISTEN = "0A"
ANY_V4, ANY_V6 = IPv4Address(0), IPv6Address(0)
_SOCKET = re.compile(r"\Asocket:\[([0-9]+)\]\Z")


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket of one network namespace."""

    address: Address
    port: int
    inode: int


def listeners(table: str) -> list[Listener]:
    """The listening sockets in the text of /proc/net/tcp or /proc/net/tcp6; lines of another shape are left out."""
    found = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 10 or columns[3] != LISTEN:
            continue
        address, _, port = columns[1].partition(":")
        try:
            found.append(Listener(_address(address), int(port, 16), int(columns[9])))
        except ValueError:
            continue
    return found


def local_addresses(fib_trie: str, if_inet6: str) -> frozenset[Address]:
    """The addresses of the machine itself, out of /proc/net/fib_trie and /proc/net/if_inet6."""
    found: set[Address] = set()
    address = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) > 1:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and address:
            found.add(IPv4Address(address))
    for line in if_inet6.splitlines():
        text = line.split()[:1]
        if text and len(text[0]) == 32:
            found.add(IPv6Address(int(text[0], 16)))
    return frozenset(found)


def serving(table: Iterable[Listener], address: Address, port: int) -> frozenset[int]:
    """The inodes of the sockets that get what is sent to that address: the most exact ones, as the kernel chooses."""
    ranks: dict[int, set[int]] = {}
    for listener in table:
        rank = _rank(listener.address, address)
        if listener.port == port and rank is not None:
            ranks.setdefault(rank, set()).add(listener.inode)
    return frozenset(ranks[min(ranks)]) if ranks else frozenset()


def endpoint_address(endpoint: str) -> tuple[str, int]:
    """Host and port of a client endpoint. Raises ValueError when it has no such thing."""
    parts = urlsplit(endpoint)
    if not parts.hostname or parts.port is None:
        raise ValueError(f"{endpoint} names no host and port")
    return parts.hostname, parts.port


def socket_inode(link: str) -> int | None:
    """The inode that a link of /proc/PID/fd names, None when it is no socket."""
    match = _SOCKET.match(link)
    return int(match[1]) if match else None


def start_ticks(stat: str) -> int:
    """When a process started, in ticks since boot, out of /proc/PID/stat. Raises ValueError."""
    # The second column is the program's name, which may hold blanks and brackets.
    columns = stat.rpartition(")")[2].split()
    if len(columns) < 20:
        raise ValueError("/proc/PID/stat has too few columns")
    return int(columns[19])


def variable(environ: bytes, name: str) -> str:
    """A variable in the bytes of /proc/PID/environ, "" when it is not there."""
    start = f"{name}=".encode()
    value = next((entry[len(start) :] for entry in environ.split(b"\0") if entry.startswith(start)), b"")
    return value.decode(errors="surrogateescape")


def is_local(address: Address, own: frozenset[Address]) -> bool:
    """Whether an address is the machine's own."""
    return address.is_loopback or address in own


def _address(text: str) -> Address:
    """An address as the kernel prints it: 32-bit words, each in the machine's own byte order."""
    if len(text) not in (8, 32):
        raise ValueError(f"{text!r} is no address")
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    return _plain(ip_address(b"".join(words)))


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _rank(listening: Address, address: Address) -> int | None:
    if listening == _plain(address):
        return 0
    if listening == ANY_V4 and isinstance(_plain(address), IPv4Address):
        return 1
    return 2 if listening == ANY_V6 else None
