"""Which process is taken for etcd, and with what reason every other one is not."""

import pytest

from agent.domain.etcd_process import Seen, choose
from agent.errors import EtcdProcessUnclear

ENDPOINT, DATABASE = "http://127.0.0.1:2379", "/var/lib/etcd/member/snap/db"


def seen(pid: int, name: str = "etcd", what: str = "", *databases: str, own_network: bool = False) -> Seen:
    return Seen(pid, name, "socket" in what, "data" in what, databases, own_network)


def reason(*processes: Seen, is_served: bool = True) -> str:
    with pytest.raises(EtcdProcessUnclear) as caught:
        choose(processes, ENDPOINT, DATABASE, is_served=is_served)
    assert caught.value.message.startswith(f"[{caught.value.reason}] ")
    assert caught.value.hint
    return caught.value.reason


POD = seen(9, "etcd", "", DATABASE, own_network=True)


@pytest.mark.parametrize("name", ["etcd", "k3s-server", "any name"])
def test_the_process_with_socket_and_data_is_etcd_whatever_its_name(name: str) -> None:
    etcd = seen(7, name, "socket data", DATABASE)
    assert choose([POD, etcd, seen(8), seen(10, "haproxy")], ENDPOINT, DATABASE, is_served=True) is etcd


@pytest.mark.parametrize(
    "expected, processes, is_served",
    [
        ("two-fit", [seen(7, "etcd", "socket data"), seen(8, "etcd", "socket data")], True),
        ("other-data", [seen(7, "etcd", "socket", "/srv/other/member/snap/db")], True),
        ("other-data", [seen(7, "etcd", "socket", "/srv/other/member/snap/db"), seen(8, "etcd", "data")], True),
        ("socket-without-data", [seen(7, "haproxy", "socket"), seen(8, "etcd", "data")], True),
        ("socket-without-data", [seen(7, "haproxy", "socket")], True),
        ("owner-unseen", [seen(8, "etcd", "data")], True),
        ("owner-unseen", [], True),
        ("data-without-socket", [seen(7, "etcd", "data"), POD], False),
        ("other-network", [POD], False),
        ("not-listening", [seen(7)], False),
        ("not-listening", [], False),
    ],
)
def test_a_look_alike_is_refused_with_its_own_reason(expected: str, processes: list[Seen], is_served: bool) -> None:
    assert reason(*processes, is_served=is_served) == expected


def test_who_is_meant_is_told_by_pid_and_name() -> None:
    with pytest.raises(EtcdProcessUnclear, match=r"pid 7 \(haproxy\) owns .* pid 8 \(etcd\) does: is that a proxy"):
        choose([seen(7, "haproxy", "socket"), seen(8, "etcd", "data")], ENDPOINT, DATABASE, is_served=True)
