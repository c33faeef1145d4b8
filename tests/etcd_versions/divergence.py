"""A member whose data really differ: it is stopped, one value is altered in its database file, and it is started again.

etcd has no checksum over what lies in a page, so it takes the altered bytes for its own.
"""

import re

from tests.sandbox.etcd_cluster import EtcdCluster, EtcdMember
from tests.sandbox.processes import wait_until

METRIC = re.compile(rb'^grpc_server_started_total\{[^}]*grpc_method="HashKV"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)


def alter(cluster: EtcdCluster, member: EtcdMember, value: bytes) -> None:
    """Replaces a value, wherever it lies in the file, by another of the same length, and waits for the member."""
    cluster.stop_member(member)
    path = member.folder / "data/member/snap/db"
    content = path.read_bytes()
    assert value in content
    path.write_bytes(content.replace(value, value[:-1] + bytes([value[-1] ^ 1])))
    cluster.start_member(member)
    wait_until(member.is_healthy, "the altered member does not come back", child=member.child)


def hashes_made(member: EtcdMember) -> int:
    """How often the member was asked for its HashKV since it started, as it counts itself."""
    with member.connection() as connection:
        connection.request("GET", "/metrics")
        found = METRIC.search(connection.getresponse().read())
    return int(float(found[1])) if found else 0
