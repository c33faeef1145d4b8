"""Other processes, as /proc shows them: who owns a socket, who has a file open, and what its root folder holds."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from agent.domain import proc
from agent.domain.etcd_process import Seen
from agent.domain.proc import Address, Listener

PROC = Path("/proc")
# The first process is of the host's own network; the root service itself has none.
HOST_NETWORK = PROC / "1/net"
DATABASE = "/member/snap/db"
GONE = (FileNotFoundError, ProcessLookupError, NotADirectoryError)


def served(endpoint: str) -> frozenset[int]:
    """The inodes of the sockets that serve a client endpoint in the host's network, none when nothing listens there.

    Raises ValueError when it names no address of this machine.
    """
    host, port = proc.endpoint_address(endpoint)
    table = _listeners()
    own = proc.local_addresses(_text(HOST_NETWORK / "fib_trie"), _text(HOST_NETWORK / "if_inet6"))
    addresses = [address for address in _addresses(host) if proc.is_local(address, own)]
    if not addresses:
        raise ValueError(f"{host} is no address of this machine")
    return frozenset().union(*(proc.serving(table, address, port) for address in addresses))


def survey(inodes: frozenset[int], database: os.stat_result) -> list[Seen]:
    """Every process that owns one of the sockets, has that very file open, or is named etcd."""
    return [seen for pid in _pids() if (seen := _look(pid, inodes, database)) is not None]


class Pinned:
    """A process held by a descriptor of its own, so that its number can not become another one's unnoticed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = os.pidfd_open(pid)
        try:
            self.start_ticks = proc.start_ticks(_text(PROC / str(pid) / "stat"))
            self.root = os.open(PROC / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._process)
            raise

    def __enter__(self) -> "Pinned":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.root)
        os.close(self._process)

    @property
    def is_there(self) -> bool:
        """Whether that very process still runs."""
        return not select.select([self._process], [], [], 0)[0]

    @property
    def exe(self) -> str:
        """The path of its program, as it sees it."""
        folder = PROC / str(self.pid)
        program, root = str((folder / "exe").readlink()), str((folder / "root").readlink())
        inside = program.removeprefix(root) if root != "/" and program.startswith(f"{root}/") else program
        return inside.removesuffix(" (deleted)")

    @property
    def path_variable(self) -> str:
        """The PATH that it was started with."""
        return proc.variable((PROC / str(self.pid) / "environ").read_bytes(), "PATH")

    def look(self, inodes: frozenset[int], database: os.stat_result) -> Seen | None:
        """What it owns and has open now."""
        return _look(self.pid, inodes, database)


def _look(pid: int, inodes: frozenset[int], database: os.stat_result) -> Seen | None:
    folder = PROC / str(pid)
    try:
        name = _text(folder / "comm").rstrip("\n")
        owns_socket, has_data, databases = False, False, []
        for number, link in _links(folder / "fd"):
            owns_socket = owns_socket or proc.socket_inode(link) in inodes
            if link.endswith(DATABASE):
                databases.append(link)
            if link.endswith("/db"):
                has_data = has_data or _is_same(folder / "fd" / number, database)
        if not (owns_socket or has_data or name == "etcd"):
            return None
        return Seen(pid, name, owns_socket, has_data, tuple(databases), own_network=_has_own_network(folder))
    except GONE:
        return None
    except PermissionError:
        return None


def _links(folder: Path) -> Iterator[tuple[str, str]]:
    for entry in os.scandir(folder):
        with contextlib.suppress(*GONE):
            yield entry.name, str(Path(entry.path).readlink())


def _is_same(path: Path, database: os.stat_result) -> bool:
    """Whether an open file is the database: compared by device and inode, for paths differ between mounts."""
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), database)
    return False


def _has_own_network(folder: Path) -> bool:
    """Each network namespace has tables of its own in /proc; that can be asked without a right to the process."""
    with contextlib.suppress(OSError):
        return (folder / "net/tcp").stat().st_ino != (HOST_NETWORK / "tcp").stat().st_ino
    return False


def _listeners() -> list[Listener]:
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            found += proc.listeners(_text(HOST_NETWORK / name))
    return found


def _addresses(host: str) -> list[Address]:
    """The addresses of a host; a name is looked up in /etc/hosts, since the root service has no network."""
    with contextlib.suppress(ValueError):
        return [ip_address(host)]
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise ValueError(f"the name {host} is not in /etc/hosts: give the address") from None
    return list(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))


def _pids() -> list[int]:
    return sorted(int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        if path.name in ("if_inet6", "fib_trie"):
            return ""
        raise
