"""A real cluster of three: a leader's node reads the snapshot from a follower, from its own member where none fits."""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.adapters import files
from agent.adapters.directory import DirectoryStore
from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.adapters.outbox import OutboxFolder
from agent.config import EtcdConfig
from agent.domain import request as requests
from agent.domain.cluster import hex_id
from agent.domain.outbox import Bounds
from agent.domain.snapshot import Manifest
from agent.operations import catalogue, snapshot
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from tests.etcd_versions import servers
from tests.etcd_versions.servers import Servers
from tests.sandbox.etcd_cluster import EtcdMember, frozen
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
VERSION = "3.5"
NOT_TAKEN = "source.not_taken"


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    tools = servers.tools_or_skip(VERSION)
    with servers.running(VERSION, tools, tmp_path_factory.mktemp("trio"), size=3) as running:
        running.put("/registry/a", "1")
        yield running


class Roles:
    """Who leads and who follows now, with their member ids."""

    def __init__(self, trio: Servers) -> None:
        statuses = {member.name: trio.client_at(member).status() for member in trio.members}
        self.ids = {name: hex_id(status.member_id) for name, status in statuses.items()}
        self.leader = next(one for one in trio.members if statuses[one.name].is_leader)
        self.followers = [one for one in trio.members if one is not self.leader]


@pytest.fixture
def roles(trio: Servers) -> Roles:
    return Roles(trio)


def taken(trio: Servers, at: EtcdMember, folder: Path, *, doors: EtcdConfig | None = None, **params: str) -> Manifest:
    """The manifest of a snapshot that the agent of that member's node takes. `doors` is how it reaches the others."""
    store = DirectoryStore(folder / "store")
    own, others = trio.config_at(at), doors or trio.config_at(at)

    def door(url: str) -> Etcdctl:
        return Etcdctl(msgspec.structs.replace(others, endpoints=(url,)))

    ports = SnapshotPorts(
        Etcdctl(own), SnapshotStatus(str(trio.tools)), store, files.free_bytes,
        OutboxFolder(folder / "outbox", Bounds(8, 10**9)), at=door,
    )  # fmt: skip
    job = Job(
        requests.make(op_id="snapshot-1111", operation="snapshot", trace_id="1" * 32,
                      requested_at="2026-01-31T12:00:00Z", params=params),
        1, folder / "work", "prod", at.name, "", "1.0", time_left_s=lambda: 60.0,
    )  # fmt: skip
    job.folder.mkdir(parents=True)
    assert snapshot.run(job, ports, Steps(lambda progress: None))["stored"]
    (backup,) = catalogue.backups(store, "prod")
    assert {check.outcome for check in backup.manifest.checks if check.level == "fresh"} <= {"passed", "skipped"}
    return backup.manifest


def not_taken(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """The reasons, by member id."""
    records: list[Any] = [one for one in caplog.records if getattr(one, "event", "") == NOT_TAKEN]
    return {one.member_id: one.reason for one in records}


def test_a_leader_leaves_the_reading_to_a_follower_and_confirms_it(trio: Servers, roles: Roles, tmp_path: Path) -> None:
    revision = trio.put("/registry/b", "2")
    manifest = taken(trio, roles.leader, tmp_path)
    assert manifest.member_id in {roles.ids[one.name] for one in roles.followers}
    assert roles.ids[manifest.member_name] == manifest.member_id
    assert manifest.member_endpoint == next(
        one.client_url for one in roles.followers if one.name == manifest.member_name
    )
    assert (manifest.node, manifest.revision) == (roles.leader.name, revision)
    assert f"confirmed by {roles.leader.name}" in {check.note for check in manifest.checks}


def test_a_follower_reads_its_own_member(trio: Servers, roles: Roles, tmp_path: Path) -> None:
    for follower in roles.followers:
        manifest = taken(trio, follower, tmp_path / follower.name)
        assert (manifest.member_id, manifest.member_name) == (roles.ids[follower.name], follower.name)


def test_an_emergency_reads_the_local_leader(trio: Servers, roles: Roles, tmp_path: Path) -> None:
    assert taken(trio, roles.leader, tmp_path, emergency="true").member_id == roles.ids[roles.leader.name]


def test_certificates_that_the_followers_do_not_take_leave_the_leader(
    trio: Servers, roles: Roles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = trio.stranger.issue("stranger", "127.0.0.1")
    doors = msgspec.structs.replace(
        trio.config_at(roles.leader), cert=str(stranger.cert), key=str(stranger.key), call_timeout_s=2
    )
    with caplog.at_level(logging.INFO):
        manifest = taken(trio, roles.leader, tmp_path, doors=doors)
    assert manifest.member_id == roles.ids[roles.leader.name]
    assert not_taken(caplog).keys() == {roles.ids[one.name] for one in roles.followers}


def test_a_follower_that_is_stopped_leaves_it_to_the_other_one(
    trio: Servers, roles: Roles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, other = roles.followers
    with frozen(stopped), caplog.at_level(logging.INFO):
        manifest = taken(trio, roles.leader, tmp_path)
    assert manifest.member_id == roles.ids[other.name]
    assert "does not answer" in not_taken(caplog)[roles.ids[stopped.name]]


def test_a_corrupt_local_member_leaves_it_to_the_other_follower(trio: Servers, roles: Roles, tmp_path: Path) -> None:
    corrupt, other = roles.followers
    member_id = int(roles.ids[corrupt.name], 16)
    trio.alarm("ACTIVATE", member_id, "CORRUPT")
    try:
        wait_until(lambda: bool(trio.client_at(corrupt).alarms()), "the alarm is not known yet")
        manifest = taken(trio, corrupt, tmp_path)
    finally:
        trio.alarm("DEACTIVATE", member_id, "CORRUPT")
    assert manifest.member_id == roles.ids[other.name]
    assert f"confirmed by {roles.leader.name}" in {check.note for check in manifest.checks}


@pytest.mark.parametrize("advertised", ["nowhere", "the leader's"])
def test_a_client_url_that_leads_nowhere_or_to_another_member_is_not_used(
    trio: Servers, roles: Roles, tmp_path: Path, caplog: pytest.LogCaptureFixture, advertised: str
) -> None:
    wrong, other = roles.followers
    url = f"https://0.0.0.0:{wrong.client_port}" if advertised == "nowhere" else roles.leader.client_url
    with advertising(trio, wrong, url), caplog.at_level(logging.INFO):
        manifest = taken(trio, roles.leader, tmp_path)
    assert manifest.member_id == roles.ids[other.name]
    why = "no client URL" if advertised == "nowhere" else f"answered for by member {roles.ids[roles.leader.name]}"
    assert why in not_taken(caplog)[roles.ids[wrong.name]]


@contextlib.contextmanager
def advertising(trio: Servers, member: EtcdMember, url: str) -> Iterator[None]:
    """The member tells others another client URL than the one it is at."""

    def restart(told: str) -> None:
        trio.cluster.stop_member(member)
        trio.cluster.start_member(member, flags=[f"--advertise-client-urls={told}"])
        wait_until(member.is_healthy, f"{member.name} does not come back", child=member.child)
        wait_until(partial(is_told, told), f"{member.name} does not publish {told}")

    def is_told(told: str) -> bool:
        rows = trio.client_at(member).members()
        return any(row.name == member.name and row.client_urls == (told,) for row in rows)

    restart(url)
    try:
        yield
    finally:
        restart(member.client_url)
