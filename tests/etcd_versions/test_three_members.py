"""A cluster of three: joining and leaving members, one down, a member that hangs, a full database, no quorum."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.domain import cluster as domain
from agent.domain.cluster import AlarmKind, EndpointStatus, Member, hex_id
from agent.errors import EtcdError, EtcdOutcomeUnknown, EtcdUnavailable
from agent.operations import cluster_view, inspection
from tests.etcd_versions.servers import Servers
from tests.sandbox.etcd_cluster import EtcdMember, frozen
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
SHORT_S = 1
NUMBERS = itertools.count(4)


def row_of(trio: Servers, member: EtcdMember) -> Member | None:
    """The member's row in the list; found by its peer URL, as one that never started has no name."""
    return next((row for row in trio.client.members() if member.peer_url in row.peer_urls), None)


def patient(trio: Servers, *words: str) -> str:
    """A change of the members, which etcd refuses for some seconds after each start and each change."""
    printed: list[str] = []

    def is_accepted() -> bool:
        with contextlib.suppress(EtcdError):
            printed.append(trio.client._run(list(words), timeout_s=5).stdout)
        return bool(printed)

    wait_until(is_accepted, f"etcd does not accept {words}")
    return printed[0]


def test_ids_of_64_bits_are_told_exactly(trio: Servers) -> None:
    told = json.loads(trio.etcdctl("member", "list", "-w", "json"))["members"]
    simple = trio.etcdctl("member", "list")
    rows = trio.client.members()
    assert sorted(row.member_id for row in rows) == sorted(row["ID"] for row in told)
    for row in rows:
        assert f"{hex_id(row.member_id)}, started, {row.name}," in simple
    assert max(row.member_id for row in rows) > 2**53  # a float no longer holds these


def test_every_member_names_the_same_leader_and_revision(trio: Servers) -> None:
    revision = trio.put("/registry/a", "1")
    for member in trio.members:
        assert trio.client_at(member).linearizable_revision() == revision
    statuses = [trio.client_at(member).status() for member in trio.members]
    assert len({(status.leader, status.raft_term, status.cluster_id) for status in statuses}) == 1
    assert len({status.member_id for status in statuses}) == 3
    assert sum(status.is_leader for status in statuses) == 1
    assert {status.revision for status in statuses} == {revision}


@dataclass(frozen=True)
class Joiner:
    """A machine that the cluster knows as a learner, started or not."""

    machine: EtcdMember
    member_id: int


@pytest.fixture
def joiner(trio: Servers) -> Iterator[Joiner]:
    machine = trio.cluster.new_member(next(NUMBERS))  # each with a folder of its own
    patient(trio, "member", "add", machine.name, "--learner", "--peer-urls", machine.peer_url)
    row = row_of(trio, machine)
    assert row is not None
    try:
        yield Joiner(machine, row.member_id)
    finally:
        if row_of(trio, machine) is not None:
            patient(trio, "member", "remove", hex_id(row.member_id))
        if machine.child is not None:
            trio.cluster.stop_member(machine)


def test_a_member_that_never_started_is_told_as_such(trio: Servers, joiner: Joiner) -> None:
    row = row_of(trio, joiner.machine)
    assert row is not None
    assert (row.name, row.client_urls, row.is_learner) == ("", (), True)
    assert not row.is_started
    own = trio.client.status()
    assert joiner.member_id not in {
        other.member_id for other in domain.other_voters(trio.client.members(), own.member_id)
    }


def test_a_learner_tells_its_status_and_is_no_source_of_a_snapshot(trio: Servers, joiner: Joiner) -> None:
    trio.cluster.start_member(joiner.machine, joins=True)
    client = Etcdctl(msgspec.structs.replace(trio.config_at(joiner.machine), call_timeout_s=2))
    answers: list[EndpointStatus] = []

    def answers_as_learner() -> bool:
        with contextlib.suppress(EtcdError):
            answers[:] = [client.status()]
        return bool(answers) and answers[0].leader != 0

    wait_until(answers_as_learner, "the learner does not answer", child=joiner.machine.child)
    (status,) = answers
    assert (status.member_id, status.is_learner, status.is_leader) == (joiner.member_id, True, False)
    assert status.cluster_id == trio.client.status().cluster_id
    assert [finding.rule for finding in domain.endpoint_findings(status, status)] == ["learner"]
    for refused in (client.linearizable_revision, client.alarms):
        with pytest.raises(EtcdError, match="not supported for learner") as caught:
            refused()
        assert caught.value.hint


def test_a_learner_that_was_promoted_votes_and_one_that_was_removed_is_gone(trio: Servers, joiner: Joiner) -> None:
    trio.cluster.start_member(joiner.machine, joins=True)

    def votes() -> bool:
        with contextlib.suppress(EtcdError):  # not in sync yet, or etcdctl below 3.5.20 panics after it worked
            trio.client._run(["member", "promote", hex_id(joiner.member_id)], timeout_s=5)
        row = row_of(trio, joiner.machine)
        return row is not None and row.is_started and not row.is_learner

    wait_until(votes, "the learner is not promoted", child=joiner.machine.child)
    assert not trio.client_at(joiner.machine).status().is_learner
    patient(trio, "member", "remove", hex_id(joiner.member_id))
    assert row_of(trio, joiner.machine) is None
    with pytest.raises(EtcdError, match="member not found") as caught:
        trio.client._run(["member", "remove", hex_id(joiner.member_id)], timeout_s=5)
    assert caught.value.code == "etcd_already_done"
    removed = Etcdctl(msgspec.structs.replace(trio.config_at(joiner.machine), call_timeout_s=SHORT_S))
    with pytest.raises(EtcdError):
        removed.linearizable_revision()


def test_one_of_three_down_is_silent_and_the_rest_is_told(trio: Servers) -> None:
    down = trio.members[2]
    trio.cluster.stop_member(down)
    try:
        own = trio.client.status()
        wait_until(lambda: trio.client.status().leader != 0, "no leader with two of three")
        view = cluster_view.look(
            trio.client, own, lambda url: trio.with_config(endpoints=(url,), call_timeout_s=SHORT_S)
        )
        silent = [answer for answer in view.answers if answer.status is None]
        assert [answer.member.name for answer in silent] == [down.name]
        assert down.client_url in silent[0].silence
        assert len(view.answers) == 3
        assert trio.put("/registry/one-down", "1") == trio.client.linearizable_revision()
    finally:
        trio.cluster.start_member(down)
        wait_until(down.is_healthy, "the member does not come back", child=down.child)


def test_a_peer_that_hangs_stops_nobody_else(trio: Servers) -> None:
    hanging = trio.members[2]
    with frozen(hanging):
        wait_until(trio.member.is_healthy, "two of three do not go on")
        assert trio.put("/registry/hangs", "1") == trio.client.linearizable_revision()
        client = Etcdctl(msgspec.structs.replace(trio.config_at(hanging), call_timeout_s=SHORT_S))
        with pytest.raises((EtcdUnavailable, EtcdOutcomeUnknown)):
            client.linearizable_revision()


def test_a_full_database_is_told_by_its_member_and_stops_no_read(trio: Servers) -> None:
    second = trio.client_at(trio.members[1]).status().member_id
    trio.alarm("ACTIVATE", second, "NOSPACE")
    try:
        (alarm,) = trio.client.alarms()
        assert (alarm.member_id, alarm.kind) == (second, AlarmKind.NOSPACE)
        assert trio.client.linearizable_revision() > 0
        with pytest.raises(EtcdError, match="database space exceeded") as caught:
            trio.client._run(["put", "/registry/full", "1"], timeout_s=5)
        assert not caught.value.retryable
    finally:
        trio.alarm("DEACTIVATE", second, "NOSPACE")
    assert list(trio.client.alarms()) == []


def test_without_quorum_a_member_tells_that_it_knows_no_leader(trio: Servers, tmp_path: Path) -> None:
    others = trio.members[1:]
    for member in others:
        assert member.child is not None
        member.child.kill()
    client = trio.with_config(call_timeout_s=SHORT_S)
    try:
        wait_until(lambda: trio.client.status().leader == 0, "it still names a leader")
        status = trio.client.status()
        assert any("no leader" in error for error in status.errors)
        assert [finding.rule for finding in domain.leader_findings(status)] == ["no-leader"]
        for read in (client.linearizable_revision, client.alarms):
            with pytest.raises(EtcdOutcomeUnknown) as caught:
                read()
            assert caught.value.retryable
        if trio.version == "3.4":
            assert len(client.members()) == 3  # the member's own list there, without a quorum too
        else:
            with pytest.raises(EtcdOutcomeUnknown):
                client.members()
        client.save_snapshot(tmp_path / "kept.db", timeout_s=30, on_bytes=lambda done: None)
        inspection.check_trailer(tmp_path / "kept.db")
    finally:
        for member in others:
            trio.cluster.start_member(member)
        for member in trio.members:
            wait_until(member.is_healthy, "the cluster does not come back", child=member.child, timeout_s=60)
