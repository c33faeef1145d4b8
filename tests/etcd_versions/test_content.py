"""Level `content` on real members: equal data are equal, altered ones differ, and the leader is never asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.directory import DirectoryStore
from agent.adapters.etcdutl import SnapshotStatus
from agent.adapters.outbox import OutboxFolder
from agent.domain import request as requests
from agent.domain.outbox import Bounds
from agent.domain.request import format_moment
from agent.domain.snapshot import Backup
from agent.errors import ContentDiffers, EtcdError, Refused
from agent.operations import catalogue, content, snapshot
from agent.operations.content import ContentPorts
from agent.operations.snapshot import SnapshotPorts
from agent.operations.steps import Job, Steps
from tests.etcd_versions import divergence
from tests.etcd_versions.servers import Servers
from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
MARK = "a value that is found again in the file"


@dataclass(frozen=True)
class Backups:
    """The operations of this agent on the machine of one member, with a store that all share."""

    trio: Servers
    member: EtcdMember
    folder: Path

    @property
    def ports(self) -> SnapshotPorts:
        return SnapshotPorts(
            self.trio.client_at(self.member), SnapshotStatus(self.trio.config.tools_dir),
            DirectoryStore(self.folder / "store"), lambda folder: 10**9,
            OutboxFolder(self.folder / "outbox", Bounds(8, 10**9)),
        )  # fmt: skip

    def take(self) -> Backup:
        output = self._run("snapshot", {}, lambda job, steps: snapshot.run(job, self.ports, steps))
        return catalogue.resolve(self.ports.store, "prod", output["snapshot_id"])

    def check(self, backup: Backup) -> dict[str, Any]:
        ports = ContentPorts(
            self.ports.etcd, lambda url: self.trio.with_config(endpoints=(url,)),
            SnapshotStatus(self.trio.config.tools_dir), self.ports.store, self.ports.free_bytes, 10**9, 30.0,
        )  # fmt: skip
        params = {"id": backup.manifest.snapshot_id, "level": "content", "force": "true"}
        return self._run("verify", params, lambda job, steps: content.run(job, ports, steps))

    def look(self, backup: Backup) -> Backup:
        return catalogue.resolve(self.ports.store, "prod", backup.manifest.snapshot_id)

    def _run(
        self, operation: str, params: dict[str, str], run: Callable[[Job, Steps], dict[str, Any]]
    ) -> dict[str, Any]:
        request = requests.make(
            op_id="verify-content" if params else f"snapshot-{len(list(self.folder.rglob('*.zst')))}",
            operation=operation, params=params, trace_id="4" * 32, requested_at=format_moment(datetime.now(UTC)),
        )  # fmt: skip
        job = Job(request, 1, self.folder / "work", "prod", self.member.name, "", "1.0")
        job.folder.mkdir(parents=True, exist_ok=True)
        return run(job, Steps(lambda progress: None))


@pytest.fixture
def leader(trio: Servers) -> EtcdMember:
    (found,) = [member for member in trio.members if trio.client_at(member).status().is_leader]
    return found


@pytest.fixture
def followers(trio: Servers, leader: EtcdMember) -> list[EtcdMember]:
    return [member for member in trio.members if member is not leader]


@pytest.fixture
def backups(trio: Servers, followers: list[EtcdMember], tmp_path: Path) -> Backups:
    """On the machine of the first follower."""
    trio.put("/registry/marked", MARK)
    return Backups(trio, followers[0], tmp_path)


def of_files(trio: Servers) -> bool:
    return trio.version not in ("3.4", "3.5")


def test_the_hash_of_a_member_and_of_a_file_with_the_same_data_is_one(trio: Servers, tmp_path: Path) -> None:
    revision = trio.put("/registry/one", "1")
    trio.put("/registry/two", "2")
    found = trio.client.hash_kv(revision, timeout_s=5)
    assert found is not None
    assert found.member_id == trio.client.status().member_id
    assert found.hash_revision == (revision if of_files(trio) else None)
    with pytest.raises(EtcdError, match="future revision"):
        trio.client.hash_kv(revision + 100, timeout_s=5)
    if of_files(trio):
        path, tool = tmp_path / "snapshot.db", SnapshotStatus(trio.config.tools_dir)
        trio.client.save_snapshot(path, timeout_s=30, on_bytes=lambda done: None)
        of_file = tool.hash_kv(path, revision)
        assert (of_file.hash, of_file.compact_revision) == (found.hash, found.compact_revision)


def test_equal_data_pass_and_the_leader_is_never_asked(
    backups: Backups, leader: EtcdMember, followers: list[EtcdMember]
) -> None:
    made = [divergence.hashes_made(member) for member in followers]
    answer = backups.check(backups.take())
    assert answer["outcome"] == "passed"
    assert ("the stored file" in answer["compared"]) is of_files(backups.trio)
    asked = [divergence.hashes_made(member) - before for member, before in zip(followers, made, strict=True)]
    assert asked == ([0, 1] if of_files(backups.trio) else [1, 1])
    if leader is not backups.trio.member:  # which another test asks itself
        assert divergence.hashes_made(leader) == 0


def test_of_the_leaders_snapshot_a_file_is_compared_and_members_are_not(
    trio: Servers, leader: EtcdMember, tmp_path: Path
) -> None:
    """Below 3.6 the member that it was taken from would have to be asked."""
    trio.put("/registry/marked", MARK)
    of_leader, made = Backups(trio, leader, tmp_path), divergence.hashes_made(leader)
    backup = of_leader.take()
    if of_files(trio):
        assert of_leader.check(backup)["outcome"] == "passed"
    else:
        with pytest.raises(Refused, match="leads the cluster"):
            of_leader.check(backup)
    assert divergence.hashes_made(leader) == made


def test_what_was_compacted_since_is_not_comparable_and_as_good_as_before(
    backups: Backups, followers: list[EtcdMember]
) -> None:
    backup = backups.take()
    newest = backups.trio.put("/registry/later", "1")
    backups.trio.etcdctl("compact", str(newest))
    made = [divergence.hashes_made(member) for member in followers]
    with pytest.raises(Refused, match="compacted since") as caught:
        backups.check(backup)
    assert caught.value.rule == "content-not-comparable"
    assert [divergence.hashes_made(member) for member in followers] == made
    assert backups.look(backup).is_good


def test_data_that_really_differ_are_found_recorded_and_end_its_being_good(
    backups: Backups, followers: list[EtcdMember]
) -> None:
    """Last of all: it leaves a member altered."""
    altered = followers[1]
    divergence.alter(backups.trio.cluster, altered, MARK.encode())
    wait_until(lambda: backups.trio.client_at(altered).status().leader != 0, "it knows no leader")
    backup = backups.take()
    with pytest.raises(ContentDiffers, match="DIFFER at revision"):
        backups.check(backup)
    assert [check.outcome for record in backups.look(backup).verifications for check in record.checks] == ["failed"]
    assert not backups.look(backup).is_good
