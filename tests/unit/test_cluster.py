"""What speaks against a member as the source of a snapshot: each finding has its rule and its remedy."""

from dataclasses import replace

import pytest

from agent.domain import cluster
from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Finding, Member

OWN, OTHER, THIRD = 2**63 + 1, 2**63 + 2, 2**63 + 3
STATUS = EndpointStatus(
    endpoint="https://10.0.0.1:2379", cluster_id=2**64 - 1, member_id=OWN, version="3.5.16", revision=7, leader=OTHER,
    raft_term=2, raft_applied_index=9, db_size_bytes=1000, is_learner=False,
)  # fmt: skip


def member(member_id: int, *, started: bool = True, learner: bool = False) -> Member:
    name = f"m-{member_id & 0xF}"
    return Member(
        member_id, name if started else "", (f"https://{name}:2380",), (f"https://{name}:2379",) * started, learner
    )


MEMBERS = [member(OWN), member(OTHER), member(THIRD)]


def rules(findings: list[Finding]) -> list[str]:
    assert all(finding.message and finding.hint for finding in findings)
    return [finding.rule for finding in findings]


def test_a_healthy_voter_speaks_for_itself() -> None:
    assert rules(cluster.endpoint_findings(STATUS, STATUS)) == []
    assert rules(cluster.leader_findings(STATUS)) == []
    assert rules(cluster.cluster_findings(STATUS, MEMBERS, [])) == []


def test_a_load_balancer_shows_by_two_member_ids() -> None:
    (finding,) = cluster.endpoint_findings(STATUS, replace(STATUS, member_id=OTHER))
    assert finding.rule == "endpoint-not-one-member"
    assert "8000000000000001" in finding.message
    assert "8000000000000002" in finding.message


def test_a_learner_is_no_source_whether_it_or_the_list_says_so() -> None:
    """3.4 and 3.5 leave `isLearner` out of the status of some members."""
    learner = replace(STATUS, is_learner=True)
    members = [member(OWN, learner=True), member(OTHER)]
    assert rules(cluster.endpoint_findings(learner, learner)) == ["learner"]
    assert rules(cluster.cluster_findings(STATUS, members, [])) == ["learner"]
    assert rules(cluster.cluster_findings(learner, members, [])) == []


def test_a_member_that_the_list_does_not_have_is_no_source() -> None:
    assert rules(cluster.cluster_findings(STATUS, MEMBERS[1:], [])) == ["endpoint-not-listed"]
    assert rules(cluster.cluster_findings(STATUS, [], [])) == ["endpoint-not-listed"]


@pytest.mark.parametrize(
    "alarm, wanted",
    [
        (Alarm(OWN, AlarmKind.CORRUPT), ["corrupt"]),
        (Alarm(OTHER, AlarmKind.CORRUPT), []),
        (Alarm(OWN, AlarmKind.NOSPACE), []),
    ],
)
def test_only_the_own_alarm_corrupt_speaks_against_a_member(alarm: Alarm, wanted: list[str]) -> None:
    assert rules(cluster.cluster_findings(STATUS, MEMBERS, [alarm])) == wanted


def test_without_a_leader_the_way_out_is_named() -> None:
    (finding,) = cluster.leader_findings(replace(STATUS, leader=0))
    assert finding.rule == "no-leader"
    assert "--emergency" in finding.hint


def test_nobody_leads_where_nobody_has_an_id() -> None:
    assert not replace(STATUS, leader=0, member_id=0).is_leader
    assert replace(STATUS, leader=OWN).is_leader


def test_those_who_can_confirm_are_the_other_started_voters() -> None:
    members = [member(OWN), member(OTHER, learner=True), member(THIRD, started=False), member(4)]
    assert cluster.other_voters(members, OWN) == [member(4)]
    assert cluster.other_voters([member(OWN)], OWN) == []


def test_ids_are_hex_without_padding_up_to_the_largest() -> None:
    assert (cluster.hex_id(2**64 - 1), cluster.hex_id(11)) == ("f" * 16, "b")


def test_the_disk_needs_more_than_the_database() -> None:
    assert cluster.needed_disk_bytes(1000) == 1200
    assert cluster.needed_disk_bytes(0) == 0
