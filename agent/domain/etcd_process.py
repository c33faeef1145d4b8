"""Which process is the etcd that the configuration means: a decision over what was seen of the processes."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import EtcdProcessUnclear

ETCD = "etcd"
HINT = "do etcd.endpoints and etcd.data_dir in /etc/etcd-agent/config.toml name this node's own etcd?"


@dataclass(frozen=True)
class Seen:
    """A process as far as it matters here. `databases` are the paths, as it sees them, of the databases it has open."""

    pid: int
    name: str
    owns_socket: bool
    has_data: bool
    databases: tuple[str, ...] = ()
    own_network: bool = False

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})"


def choose(seen: Sequence[Seen], endpoint: str, database: str, *, is_served: bool) -> Seen:
    """The one process that owns the endpoint's socket and has that very database open.

    `is_served` tells whether anything listens there in the host's network. Raises EtcdProcessUnclear with the reason.
    """
    fitting = [process for process in seen if process.owns_socket and process.has_data]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _unclear("two-fit", f"{_listed(fitting)} both own {endpoint} and have {database} open",
                       "end the one that is left over; or give etcd.tools_dir")  # fmt: skip
    owners = [process for process in seen if process.owns_socket]
    holders = [process for process in seen if process.has_data]
    if not is_served:
        raise _nobody_listens(seen, holders, endpoint, database)
    if not owners:
        raise _unclear("owner-unseen", f"something listens on {endpoint}, but no process that may be looked at")
    told = f"{_listed(owners)} owns {endpoint} but does not have {database} open"
    other_data = [process for process in owners if process.databases]
    if other_data:
        raise _unclear("other-data", f"{told}: its data is {', '.join(other_data[0].databases)}")
    if holders:
        raise _unclear("socket-without-data", f"{told}, {_listed(holders)} does: is that a proxy before etcd?",
                       "let etcd.endpoints name the address that etcd itself listens on")  # fmt: skip
    raise _unclear("socket-without-data", f"{told}: it is no etcd, or etcd.data_dir is another one")


def _nobody_listens(seen: Sequence[Seen], holders: Sequence[Seen], endpoint: str, database: str) -> EtcdProcessUnclear:
    start = f"nothing listens on {endpoint} in the host's own network"
    if holders:
        return _unclear("data-without-socket", f"{start}; {_listed(holders)} has {database} open but listens elsewhere")
    strangers = [process for process in seen if process.own_network and process.name == ETCD]
    if strangers:
        return _unclear("other-network", f"{start}; {_listed(strangers)} is in a network of its own, as a pod's is")
    return _unclear("not-listening", start, "is etcd up? then: " + HINT)


def _listed(processes: Sequence[Seen]) -> str:
    return " and ".join(str(process) for process in processes)


def _unclear(reason: str, message: str, hint: str = HINT) -> EtcdProcessUnclear:
    return EtcdProcessUnclear(f"[{reason}] {message}", reason=reason, hint=hint)
