"""One member's data through every version that is here: what the agent read before, it reads after each upgrade."""

from pathlib import Path

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.config import EtcdConfig
from agent.operations import inspection
from tests.etcd_versions import servers
from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.processes import wait_until
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]


def cluster_version(member: EtcdMember) -> str:
    """What the cluster agreed to be; etcd refuses to upgrade by two minor versions at once."""
    with member.connection() as connection:
        connection.request("GET", "/version")
        return str(msgspec.json.decode(connection.getresponse().read())["etcdcluster"])


def save(config: EtcdConfig, path: Path) -> int:
    """The revision of a snapshot that was saved and found whole."""
    Etcdctl(config).save_snapshot(path, timeout_s=30, on_bytes=lambda done: None)
    inspection.check_trailer(path)
    return SnapshotStatus(config.tools_dir).status(path).revision


def write_past_a_raft_snapshot(server: servers.Servers, member: EtcdMember) -> int:
    """The revision after so many writes that etcd starts without the log of the version before.

    3.4 logs a question for its health in a form that 3.6 refuses to read.
    """
    snapshots = member.folder / "data/member/snap"
    before = {path.name for path in snapshots.glob("*.snap")}
    revision = max(server.put("/registry/old", f"{number}") for number in range(20))
    wait_until(
        lambda: {path.name for path in snapshots.glob("*.snap")} > before, "no raft snapshot", child=member.child
    )
    return revision


def upgrade(server: servers.Servers, member: EtcdMember, version: str) -> EtcdConfig:
    """Starts the next version on the member's data; the agent's configuration with that version's tools."""
    tools = etcd.tools_folder(version)
    server.cluster.stop_member(member)
    server.cluster.start_member(member, tools=tools, flags=["--snapshot-count=10"])
    wait_until(member.is_healthy, f"etcd {version} does not start on older data", child=member.child)
    wait_until(
        lambda: cluster_version(member).startswith(f"{version}."), f"the cluster does not become {version}",
        child=member.child,
    )  # fmt: skip
    return msgspec.structs.replace(server.config, tools_dir=str(tools))


def test_data_of_the_oldest_version_is_read_after_each_upgrade(tmp_path: Path) -> None:
    here = [version for version in etcd.VERSIONS if version in etcd.present()]
    start = etcd.VERSIONS.index(here[0]) if here else 0
    if len(here) < 2 or list(etcd.VERSIONS[start : start + len(here)]) != here:
        pytest.skip(f"an upgrade goes through each minor version, here are {here}: `make etcd tools` gets the others")
    oldest, *newer = here
    with servers.running(oldest, etcd.tools_folder(oldest), tmp_path / "etcd", size=1) as server:
        revision, member = server.put("/registry/old", "x" * 1000), server.member
        before = server.client.status()
        saved = {oldest: save(server.config, tmp_path / f"{oldest}.db")}
        for version in newer:
            config = upgrade(server, member, version)
            status = Etcdctl(config).status()
            assert status.version.startswith(f"{version}.")
            assert (status.cluster_id, status.member_id) == (before.cluster_id, before.member_id)
            assert Etcdctl(config).linearizable_revision() == revision
            assert Etcdctl(config).count_keys(revision) == 1
            for older, at in saved.items():  # what was saved before is still read
                assert SnapshotStatus(config.tools_dir).status(tmp_path / f"{older}.db").revision == at
            saved[version] = save(config, tmp_path / f"{version}.db")
            assert saved[version] == revision
            revision = write_past_a_raft_snapshot(server, member)
