"""What a healthy member answers, typed: the same on each version."""

from pathlib import Path

import pytest

from agent.adapters.etcdutl import SnapshotStatus
from agent.domain.cluster import AlarmKind
from agent.errors import BadInput, CommandMissing, EtcdAnswerInvalid
from tests.etcd_versions.servers import Servers

pytestmark = [pytest.mark.integration, pytest.mark.etcd]


def test_a_member_tells_its_status(server: Servers) -> None:
    status = server.client.status()
    assert status.endpoint == server.member.client_url
    assert status.version.startswith(f"{server.version}.")
    assert status.member_id > 0
    assert status.cluster_id > 0
    assert status.is_leader
    assert not status.is_learner
    assert status.db_size_bytes > 0
    assert status.raft_applied_index > 0
    assert status.errors == ()


def test_the_only_member_is_a_started_voter(server: Servers) -> None:
    (member,) = server.client.members()
    assert member.member_id == server.client.status().member_id
    assert (member.name, member.client_urls) == (server.member.name, (server.member.client_url,))
    assert member.peer_urls == (server.member.peer_url,)
    assert member.is_started
    assert not member.is_learner


def test_a_linearizable_read_sees_the_last_write(server: Servers) -> None:
    revision = server.put("/registry/a", "1")
    assert server.client.linearizable_revision() == revision
    own = server.client.status().member_id
    assert server.client.linearizable_revision(server.member.client_url, member_id=own) == revision
    with pytest.raises(EtcdAnswerInvalid, match="answers as member"):
        server.client.linearizable_revision(server.member.client_url, member_id=own + 1)


def test_keys_are_counted_at_a_revision_until_it_is_compacted(server: Servers) -> None:
    first = server.put("/registry/counted/1", "1")
    before = server.client.count_keys(first)
    assert before is not None
    second = server.put("/registry/counted/2", "2")
    assert server.client.count_keys(second) == before + 1
    assert server.client.count_keys(first) == before
    server.gateway("/v3/kv/compaction", {"revision": second})
    assert server.client.count_keys(first) is None
    assert server.client.count_keys(second) == before + 1


@pytest.mark.parametrize("kind", [AlarmKind.NOSPACE, AlarmKind.CORRUPT])
def test_alarms_are_told_by_member_and_kind(server: Servers, kind: AlarmKind) -> None:
    assert list(server.client.alarms()) == []
    member_id = server.client.status().member_id
    server.alarm("ACTIVATE", member_id, kind.name)
    try:
        (told,) = server.client.alarms()
        assert (told.member_id, told.kind) == (member_id, kind)
        assert any(kind.name in error for error in server.client.status().errors)
    finally:
        server.alarm("DEACTIVATE", member_id, kind.name)


def test_several_endpoints_are_none(server: Servers) -> None:
    client = server.with_config(endpoints=(server.member.client_url,) * 2)
    with pytest.raises(BadInput, match="names 2 endpoints"):
        client.status()


def test_variables_of_etcdctl_in_our_environment_change_nothing(
    server: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ENDPOINTS", "http://127.0.0.1:1"), ("WRITE_OUT", "table"), ("API", "2"), ("USER", "x:y")):
        monkeypatch.setenv(f"ETCDCTL_{name}", value)
    assert server.client.status().is_leader


def test_the_version_of_the_program_is_told(server: Servers) -> None:
    assert server.client.version().startswith(f"{server.version}.")


def test_a_folder_without_the_tools_is_told(server: Servers, tmp_path: Path) -> None:
    with pytest.raises(CommandMissing, match=f"etcdctl is not in {tmp_path}"):
        server.with_config(tools_dir=str(tmp_path)).status()
    with pytest.raises(CommandMissing):
        SnapshotStatus(str(tmp_path)).describe()
