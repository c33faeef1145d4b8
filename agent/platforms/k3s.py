"""k3s: etcd is a part of the k3s process, if it is used at all: SQLite and external datastores are no etcd of ours."""

from agent.platforms import rancher
from agent.platforms.finding import Finding
from agent.platforms.rancher import Distribution
from agent.platforms.reading import Reader

K3S = Distribution(
    platform="k3s",
    unit="k3s.service",
    variable_prefix="K3S_",
    other_starters=("/etc/init.d/k3s",),
    tools=("k3s ships none: install etcdctl and etcdutl of etcd's own minor version, on PATH or in etcd.tools_dir"),
)


def look(reader: Reader) -> Finding:
    """What k3s left on this node."""
    return rancher.look(reader, K3S)
