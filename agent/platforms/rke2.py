"""RKE2: etcd is a static pod that reads a configuration file of RKE2's own."""

from agent.platforms import rancher
from agent.platforms.finding import Finding
from agent.platforms.rancher import Distribution
from agent.platforms.reading import Reader

RKE2 = Distribution(
    platform="rke2",
    unit="rke2-server.service",
    variable_prefix="RKE2_",
    other_starters=("{data_dir}/agent/pod-manifests/etcd.yaml",),
    tools="in the image of the etcd pod, from where the root service copies them",
)


def look(reader: Reader) -> Finding:
    """What RKE2 left on this node."""
    return rancher.look(reader, RKE2)
