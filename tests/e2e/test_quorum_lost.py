"""Without quorum a snapshot is refused, and an emergency one is kept apart from all that may be restored unasked."""

import json
from collections.abc import Iterator

import pytest

from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.etcd_cluster import EtcdMember, call
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path_factory.mktemp("plane") / "sandbox", with_s3=False) as made:
        kubernetes_data.fill(made.etcd.members[0], 2, lambda written_bytes: None)
        for member in made.etcd.members[1:]:
            assert member.child is not None
            member.child.kill()
        wait_until(lambda: not knows_leader(made.etcd.members[0]), "the survivor still names a leader")
        yield made


def knows_leader(member: EtcdMember) -> bool:
    with member.connection() as connection:
        return bool(call(connection, "/v3/maintenance/status", {}).get("leader", "0") != "0")


def test_a_snapshot_is_refused_with_the_remedy(plane: ControlPlane) -> None:
    completed = plane.nodes[0].run("submit", "snapshot", "--json", timeout_s=120)
    assert completed.returncode == 3, completed.stdout
    result = json.loads(completed.stdout)["result"]
    assert result["error"]["message"].startswith("[no-leader]")
    assert "--emergency" in result["error"]["hint"]
    assert not list((plane.nodes[0].root / "var/lib/etcd-agent/snapshots").glob("**/*.json"))


def test_an_emergency_snapshot_is_kept_and_is_never_the_latest(plane: ControlPlane) -> None:
    node = plane.nodes[0]
    created = node.run("submit", "snapshot", "--param", "emergency=true", "--json", timeout_s=120)
    assert created.returncode == 0, created.stdout
    output = json.loads(created.stdout)["result"]["output"]
    assert output["retention_class"] == "emergency"
    assert output["checks"]["trailer"] == output["checks"]["structure"] == "passed"
    assert output["checks"]["fresh"] != "passed"
    assert node.run("snapshot", "show", "latest").returncode != 0
    verified = node.run("snapshot", "verify", output["snapshot_id"])
    assert verified.returncode == 0, verified.stderr
