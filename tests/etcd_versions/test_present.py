"""Which versions this run proves: a missing one is skipped here, with the way to get it."""

import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.config import EtcdConfig
from tests.etcd_versions import servers
from tests.etcd_versions.record_outputs import exact_version
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]


def test_server_and_tools_are_of_one_release(asked_version: str) -> None:
    tools = servers.tools_or_skip(asked_version)
    exact = exact_version(tools)
    assert exact.startswith(f"{asked_version}.")
    assert exact == etcd.BUILT.get(asked_version, exact)
    assert Etcdctl(EtcdConfig(tools_dir=str(tools))).version() == exact
    assert SnapshotStatus(str(tools)).describe().split()[1] == exact
