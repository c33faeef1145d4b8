"""Snapshots of an etcd that is not as configured or not well: the error, nothing left, and then it works."""

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.etcd_endpoints import load_balancer, plain_server, tls_server
from tests.integration.s3_proxy import black_hole
from tests.sandbox import nodes
from tests.sandbox.etcd_cluster import EtcdCluster, EtcdMember, call, frozen
from tests.sandbox.free_ports import free_port
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import Processes, wait_until
from tests.setup import etcd

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
NOSPACE, CORRUPT = 1, 2
CERTIFICATES, REACHABLE, FILES = "must belong to this cluster", "is etcd running and healthy at", "can be read"


@dataclass
class Place:
    """A cluster of three, an agent on the first node, and another authority's files."""

    folder: Path
    cluster: EtcdCluster
    node: AgentNode
    count: int = 0

    @property
    def member(self) -> EtcdMember:
        return self.cluster.members[0]

    def configure(self, **changes: Any) -> None:
        """Writes the table `etcd` anew; each worker reads it when it starts."""
        tls = self.member.certificate
        values = {
            "endpoints": [self.member.client_url], "ca_cert": str(tls.ca_cert), "cert": str(tls.cert),
            "key": str(tls.key), "tools_dir": str(etcd.tools_folder("3.5")), "call_timeout_s": 2,
        } | changes  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.config_file.write_text('cluster = "sandbox"\n[etcd]\n' + "\n".join(lines) + "\n")

    @property
    def config_file(self) -> Path:
        return self.node.root / "etc/etcd-agent/config.toml"

    def op_id(self) -> str:
        self.count += 1
        return f"snapshot-{self.count:08d}"

    def snapshot(self, op_id: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the result."""
        ended = self.node.run("submit", "snapshot", "--op-id", op_id, "--json", timeout_s=120)
        assert "Traceback" not in ended.stderr
        result: dict[str, Any] = json.loads(ended.stdout)["result"]
        return ended.returncode, result

    def error(self, op_id: str, exit_code: int) -> Mapping[str, Any]:
        """What it failed with; nothing may be left of it."""
        told, result = self.snapshot(op_id)
        assert told == exit_code, result
        error: dict[str, Any] = result["error"]
        assert error["message"]
        assert error["hint"]
        assert self.manifests(op_id) == []
        assert not list((self.node.root / "var/lib/etcd-agent/work").glob("*/*/*"))
        return error

    def succeeds(self, op_id: str) -> dict[str, Any]:
        exit_code, result = self.snapshot(op_id)
        assert (exit_code, result["status"]) == (0, "succeeded"), result
        (manifest,) = self.manifests(op_id)
        return manifest

    def manifests(self, op_id: str) -> list[dict[str, Any]]:
        paths = (self.node.root / "var/lib/etcd-agent/snapshots").glob("*/manifest/sandbox/*.json")
        return [found for path in paths if (found := json.loads(path.read_text()))["op_id"] == op_id]

    def gateway(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.member.connection() as connection:
            return call(connection, path, body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("etcd")
    with Processes(folder / "logs") as processes:
        cluster = EtcdCluster(processes, folder, etcd.tools_folder("3.5"))
        cluster.start()
        (node,) = nodes.make(cluster.members[:1], folder, etcd.tools_folder("3.5"), None)
        made = Place(folder, cluster, node)
        made.configure()
        nodes.start(processes, node)
        yield made


@pytest.fixture(autouse=True)
def as_it_should_be(place: Place) -> Iterator[None]:
    yield
    place.configure()


def pem(folder: Path, *hosts: str, **times: datetime) -> tuple[Path, Path, Path]:
    """CA, certificate and key of an authority of its own."""
    folder.mkdir(exist_ok=True)
    authority = trustme.CA(organization_name="another")
    issued = authority.issue_cert(*hosts, not_before=times.get("begins_at"), not_after=times.get("ends_at"))
    ca, cert, key = (folder / name for name in ("ca.crt", "leaf.crt", "leaf.key"))
    authority.cert_pem.write_to_path(str(ca))
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    return ca, cert, key


NOW = datetime.now(UTC)
# How the table `etcd` is wrong, by the files of another authority; then code, exit, and what the hint says.
WRONG_FILES: dict[str, tuple[Callable[[Path, Path, Path], dict[str, str]], str, int, str]] = {
    "another authority": (lambda ca, cert, key: {"ca_cert": str(ca)}, "etcd_error", 1, CERTIFICATES),
    "a stranger's certificate": (
        lambda ca, cert, key: {"cert": str(cert), "key": str(key)}, "", 1, "",
    ),
    "a key that does not fit": (lambda ca, cert, key: {"key": str(key)}, "bad_input", 2, FILES),
    "a key that is a folder": (lambda ca, cert, key: {"key": str(key.parent)}, "bad_input", 2, FILES),
    "a key that is not there": (lambda ca, cert, key: {"key": "/nowhere/key"}, "bad_input", 2, FILES),
    "a key that is none": (lambda ca, cert, key: {"key": str(cert)}, "bad_input", 2, FILES),
    "a CA that is none": (lambda ca, cert, key: {"ca_cert": str(key)}, "bad_input", 2, FILES),
    "a CA that is empty": (lambda ca, cert, key: {"ca_cert": "/dev/null"}, "etcd_error", 1, CERTIFICATES),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG_FILES)
def test_files_that_do_not_fit_are_told_and_a_snapshot_follows(place: Place, tmp_path: Path, how: str) -> None:
    changes, code, exit_code, hint = WRONG_FILES[how]
    place.configure(**changes(*pem(tmp_path / "pki", "127.0.0.1")))
    error = place.error(place.op_id(), exit_code)
    assert (code or error["code"], hint in error["hint"]) == (error["code"], True), error
    assert code or error["code"].startswith("etcd_"), error  # told after the handshake, if the client still listens
    place.configure()
    place.succeeds(place.op_id())


def test_a_key_that_may_not_be_read_is_told(place: Place, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs a normal user: root may read everything")
    _, cert, key = pem(tmp_path / "pki", "127.0.0.1")
    key.chmod(0)
    place.configure(cert=str(cert), key=str(key))
    error = place.error(place.op_id(), 2)
    assert (error["code"], "can be read" in error["hint"]) == ("bad_input", True), error


BAD_CERTIFICATES: dict[str, tuple[tuple[str, ...], dict[str, datetime]]] = {
    "expired": (("127.0.0.1",), {"begins_at": NOW - timedelta(days=9), "ends_at": NOW - timedelta(days=1)}),
    "not yet valid": (("127.0.0.1",), {"begins_at": NOW + timedelta(days=2), "ends_at": NOW + timedelta(days=9)}),
    "of another name": (("etcd.example",), {}),
}


@pytest.mark.parametrize("how", BAD_CERTIFICATES)
def test_a_server_whose_certificate_does_not_hold_is_told(place: Place, tmp_path: Path, how: str) -> None:
    hosts, times = BAD_CERTIFICATES[how]
    ca, cert, key = pem(tmp_path / "pki", *hosts, **times)
    with tls_server(cert, key) as port:
        place.configure(endpoints=[f"https://127.0.0.1:{port}"], ca_cert=str(ca))
        error = place.error(place.op_id(), 1)
    assert (error["code"], CERTIFICATES in error["hint"]) == ("etcd_error", True), error


@pytest.mark.parametrize("how", ["expired", "not yet valid"])
def test_a_certificate_of_ours_that_does_not_hold_is_told(place: Place, how: str) -> None:
    """The server says why only after the handshake, so that the client may as well find the connection gone."""
    _, times = BAD_CERTIFICATES[how]
    ours = place.cluster.authority.issue(how.replace(" ", "-"), "127.0.0.1", **times)
    place.configure(cert=str(ours.cert), key=str(ours.key))
    error = place.error(place.op_id(), 1)
    assert error["code"] in ("etcd_error", "etcd_unavailable", "etcd_outcome_unknown"), error
    assert (CERTIFICATES if error["code"] == "etcd_error" else REACHABLE) in error["hint"], error


def closed() -> AbstractContextManager[int]:
    return contextlib.nullcontext(free_port("127.0.0.1"))


ENDPOINTS: dict[str, tuple[Callable[[], AbstractContextManager[int]], str, set[str], str]] = {
    "dead": (closed, "https", {"etcd_unavailable"}, REACHABLE),
    "a black hole": (black_hole, "https", {"etcd_unavailable", "etcd_outcome_unknown"}, REACHABLE),
    "plain to TLS": (plain_server, "https", {"etcd_error"}, CERTIFICATES),
}


@pytest.mark.parametrize("how", ENDPOINTS)
def test_an_endpoint_that_is_none_is_told_and_the_same_request_works_afterwards(place: Place, how: str) -> None:
    serve, scheme, codes, hint = ENDPOINTS[how]
    op_id = place.op_id()
    with serve() as port:
        place.configure(endpoints=[f"{scheme}://127.0.0.1:{port}"])
        error = place.error(op_id, 1)
    assert error["code"] in codes, error
    assert hint in error["hint"], error
    place.configure()
    place.succeeds(op_id if error["retryable"] else place.op_id())


def test_tls_asked_for_in_plain_is_told(place: Place) -> None:
    place.configure(endpoints=[place.member.client_url.replace("https", "http")])
    error = place.error(place.op_id(), 1)
    assert error["code"] in ("etcd_unavailable", "etcd_outcome_unknown"), error
    assert REACHABLE in error["hint"]


def test_two_endpoints_are_bad_input(place: Place) -> None:
    place.configure(endpoints=[member.client_url for member in place.cluster.members[:2]])
    error = place.error(place.op_id(), 2)
    assert (error["code"], "local member's endpoint alone" in error["hint"]) == ("bad_input", True), error


def test_a_load_balancer_is_refused_whichever_members_answer(place: Place) -> None:
    targets = [(member.address, member.client_port) for member in place.cluster.members]
    op_id = place.op_id()
    with load_balancer(targets) as port:
        place.configure(endpoints=[f"https://127.0.0.1:{port}"])
        error = place.error(op_id, 3)
    assert error["message"].startswith("[endpoint-not-one-member]")
    place.configure()
    place.succeeds(op_id)


def test_no_snapshot_of_a_corrupt_member_until_the_alarm_is_gone(place: Place) -> None:
    status = place.gateway("/v3/maintenance/status", {})
    own_id = format(int(status["header"]["member_id"]), "x")
    alarm = {"memberID": status["header"]["member_id"], "alarm": CORRUPT}
    op_id = place.op_id()
    place.gateway("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
    try:
        assert place.succeeds(place.op_id())["member_id"] != own_id  # another member is read
        with place.config_file.open("a") as config:
            config.write('[snapshot]\nsource = "local"\n')
        error = place.error(op_id, 3)
    finally:
        place.gateway("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
    assert error["message"].startswith("[corrupt]"), error
    assert place.succeeds(op_id)["member_id"] == own_id


def test_a_full_database_is_backed_up_all_the_same(place: Place) -> None:
    """Just then it is needed: before anybody compacts."""
    status = place.gateway("/v3/maintenance/status", {})
    alarm = {"memberID": status["header"]["member_id"], "alarm": NOSPACE}
    place.gateway("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
    try:
        key = base64.b64encode(b"/x").decode()
        with pytest.raises(RuntimeError, match="database space exceeded"):
            place.gateway("/v3/kv/put", {"key": key, "value": key})
        manifest = place.succeeds(place.op_id())
    finally:
        place.gateway("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
    assert {check["level"]: check["outcome"] for check in manifest["checks"]}["fresh"] == "passed"


def test_a_member_that_is_paused_is_told_and_the_same_request_works_once_it_goes_on(place: Place) -> None:
    op_id = place.op_id()
    with frozen(place.member):
        error = place.error(op_id, 1)
    assert error["code"] in ("etcd_unavailable", "etcd_outcome_unknown"), error
    assert error["retryable"]
    assert REACHABLE in error["hint"]
    place.succeeds(op_id)


def test_another_member_that_is_paused_stops_nothing(place: Place) -> None:
    with frozen(place.cluster.members[1]):
        place.succeeds(place.op_id())


def test_without_quorum_it_is_refused_and_works_once_there_is_one(place: Place) -> None:
    op_id = place.op_id()
    with frozen(*place.cluster.members[1:]):
        wait_until(lambda: not knows_leader(place), "the survivor still names a leader", timeout_s=60)
        error = place.error(op_id, 3)
    assert error["message"].startswith("[no-leader]"), error
    wait_until(place.member.is_healthy, "there is no quorum again")
    place.succeeds(op_id)


def knows_leader(place: Place) -> bool:
    return bool(place.gateway("/v3/maintenance/status", {}).get("leader", "0") != "0")


def test_a_learner_is_refused_until_it_votes(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        cluster = EtcdCluster(processes, tmp_path, etcd.tools_folder("3.5"), size=1)
        cluster.start()
        (voter,) = cluster.members
        learner = cluster.new_member(2)
        body = {"peerURLs": [learner.peer_url], "isLearner": True}
        with voter.connection() as connection:
            member_id = call(connection, "/v3/cluster/member/add", body)["member"]["ID"]
        cluster.start_member(learner, joins=True)
        (node,) = nodes.make([learner], tmp_path, etcd.tools_folder("3.5"), None)
        cluster.members = [learner, voter]  # the first one is the node's own
        place = Place(tmp_path, cluster, node)
        place.configure()
        nodes.start(processes, node)
        wait_until(lambda: answers(learner), "the learner does not answer", child=learner.child)
        op_id = place.op_id()
        error = place.error(op_id, 3)
        assert error["message"].startswith("[learner]"), error
        wait_until(lambda: promoted(voter, member_id), "the learner can not be promoted")
        wait_until(learner.is_healthy, "the new voter is not healthy")
        place.succeeds(op_id)


def answers(member: EtcdMember) -> bool:
    with contextlib.suppress(OSError, RuntimeError), member.connection() as connection:
        return "header" in call(connection, "/v3/maintenance/status", {})
    return False


def promoted(voter: EtcdMember, member_id: str) -> bool:
    with contextlib.suppress(RuntimeError), voter.connection() as connection:
        return "members" in call(connection, "/v3/cluster/member/promote", {"ID": member_id})
    return False
