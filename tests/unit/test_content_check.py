"""Who may be asked for a hash, over every small cluster with one fault: never the leader, one at a time, nobody large.

What may be asked is worked out here a second time, in other words than the code's.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Finding, hex_id
from agent.domain.cluster_health import Answer, ClusterView
from agent.domain.content_check import MOST_LAG_ENTRIES, NOT_COMPARABLE, Plan, hashes_files, plan
from agent.domain.snapshot import Manifest
from tests.unit.fakes import STATUS, member
from tests.unit.test_snapshot_domain import manifest

MOST_BYTES = 1000
REVISION = 20
FAULTS = (
    "silent", "unstarted", "other member", "other cluster", "says learner", "other leader", "other term", "no leader",
    "says error", "lags", "large", "behind", "other minor", "NOSPACE", "CORRUPT",
)  # fmt: skip
ONLY_WHEN_ASKED = ("large", "behind", "other minor")  # these are in nobody's way where another member is asked


@dataclass(frozen=True)
class Case:
    """A cluster of `size` voters: who leads, who looks, who the snapshot is of (-1: nobody of them), what is wrong."""

    size: int
    leader: int
    own: int
    source: int
    version: str
    faults: tuple[tuple[int, str], ...] = ()
    has_learner: bool = False

    @property
    def backup(self) -> Manifest:
        return manifest(
            etcd_cluster_id=hex_id(STATUS.cluster_id), member_id=hex_id(100 + self.source), revision=REVISION,
            etcd_version=self.version,
        )  # fmt: skip

    @property
    def view(self) -> ClusterView:
        answers = [self._answer(number) for number in range(self.size)]
        if self.has_learner:
            learner = member(100 + self.size, self.size, is_learner=True)
            answers.append(Answer(learner, replace(self._status(self.size), is_learner=True)))
        own = answers[self.own].status or self._status(self.own)
        kinds = {"NOSPACE": AlarmKind.NOSPACE, "CORRUPT": AlarmKind.CORRUPT}
        alarms = [Alarm(100 + number, kinds[fault]) for number, fault in self.faults if fault in kinds]
        return ClusterView(own, answers, alarms)

    def _status(self, number: int) -> EndpointStatus:
        return replace(
            STATUS, endpoint=f"https://10.0.0.{number}:2379", member_id=100 + number, leader=100 + self.leader,
            version=self.version, revision=REVISION, raft_applied_index=5000, db_size_bytes=MOST_BYTES,
        )  # fmt: skip

    def _answer(self, number: int) -> Answer:
        row, status = member(100 + number, number), self._status(number)
        changes = {
            "other member": {"member_id": 7}, "other cluster": {"cluster_id": 7}, "says learner": {"is_learner": True},
            "other leader": {"leader": 100 + (self.leader + 1) % self.size}, "other term": {"raft_term": 7},
            "no leader": {"leader": 0}, "says error": {"errors": ("etcdserver: no leader",)},
            "lags": {"raft_applied_index": 5000 - MOST_LAG_ENTRIES - 1}, "large": {"db_size_bytes": MOST_BYTES + 1},
            "behind": {"revision": REVISION - 1}, "other minor": {"version": "3.7.1"},
        }  # fmt: skip
        for at, fault in self.faults:
            if at != number:
                continue
            if fault == "silent":
                return Answer(row, None, "refused")
            if fault == "unstarted":
                return Answer(replace(row, name="", client_urls=()), None, "no URL")
            status = replace(status, **changes.get(fault, {}))  # type: ignore[arg-type]
        return Answer(row, status)


def check(case: Case) -> None:
    """Nothing unsafe is planned, and what could be done is."""
    made = plan(case.view, case.backup, max_db_bytes=MOST_BYTES)
    ignored = {(case.leader, "lags"), *itertools.product(range(case.size), ONLY_WHEN_ASKED)}  # lags behind itself
    whole = case.size >= 3 and not set(case.faults) - ignored
    followers = {number for number in range(case.size) if number != case.leader}
    unfit = {number for number, fault in case.faults if fault in ONLY_WHEN_ASKED}
    others = followers - {case.source} - unfit
    of_file = hashes_files(case.version)
    possible = whole and bool(others) and (of_file or (case.source in followers - unfit))
    assert isinstance(made, Plan) is possible, (case, made)
    if not isinstance(made, Plan):
        assert made.message
        assert made.hint
        return
    asked = [one.member.member_id - 100 for one in made.asked]
    assert len(set(asked)) == len(asked)
    assert set(asked) <= others | {case.source}
    assert case.leader not in asked
    assert (made.kind, len(asked)) == (("file", 1) if of_file else ("members", 2))
    assert asked[-1] in others
    if not of_file:
        assert asked[0] == case.source
    if of_file and others != {case.own}:
        assert asked != [case.own]


def cases() -> Iterator[Case]:
    """Every cluster of up to four voters, each with no fault or one."""
    for size in range(1, 5):
        numbers = range(size)
        for leader, own, source, version in itertools.product(numbers, numbers, range(-1, size), ("3.5.16", "3.6.16")):
            healthy = Case(size, leader, own, source, version)
            yield healthy
            yield replace(healthy, has_learner=True)
            for fault in itertools.product(numbers, FAULTS):
                yield replace(healthy, faults=(fault,))


def test_over_every_small_cluster_only_what_is_safe_is_planned_and_all_of_that() -> None:
    count = 0
    for case in cases():
        check(case)
        count += 1
    assert count > 10_000


@given(st.data())
def test_the_same_with_several_faults_in_larger_clusters(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 7))
    numbers = st.integers(0, size - 1)
    faults = data.draw(st.lists(st.tuples(numbers, st.sampled_from(FAULTS)), max_size=3, unique_by=lambda one: one[0]))
    check(Case(
        size, data.draw(numbers), data.draw(numbers), data.draw(st.integers(-1, size - 1)),
        data.draw(st.sampled_from(["3.4.23", "3.5.16", "3.6.16", "3.10.0"])), tuple(faults), data.draw(st.booleans()),
    ))  # fmt: skip


def refused(case: Case, **changes: object) -> Finding:
    backup = msgspec.structs.replace(case.backup, **changes)
    made = plan(case.view, backup, max_db_bytes=MOST_BYTES)
    assert isinstance(made, Finding)
    return made


TRIO = Case(3, leader=0, own=1, source=1, version="3.5.16")


@pytest.mark.parametrize(
    "case, rule",
    [
        (replace(TRIO, faults=((2, "silent"),)), "content-unhealthy"),
        (Case(2, 0, 1, 1, "3.5.16"), "content-no-spare"),
        (replace(TRIO, faults=((2, "large"),)), "content-too-large"),
        (replace(TRIO, faults=((2, "behind"),)), "content-behind"),
        (replace(TRIO, faults=((1, "other minor"),)), NOT_COMPARABLE),
        (replace(TRIO, source=0), NOT_COMPARABLE),
        (replace(TRIO, source=-1), NOT_COMPARABLE),
    ],
)
def test_what_stands_against_it_has_its_rule(case: Case, rule: str) -> None:
    assert refused(case).rule == rule


@pytest.mark.parametrize("changes", [{"etcd_cluster_id": "7"}, {"revision": 0}, {"live_keys": 0}])
def test_a_snapshot_of_another_cluster_or_without_keys_can_not_be_compared(changes: dict[str, object]) -> None:
    assert refused(TRIO, **changes).rule == NOT_COMPARABLE


@pytest.mark.parametrize(
    "version, can",
    [("3.4.23", False), ("3.5.30", False), ("3.6.0", True), ("3.10.1", True), ("4.0.0", True), ("", False)],
)
def test_files_are_hashed_since_3_6(version: str, can: bool) -> None:
    assert hashes_files(version) is can


def test_the_reasons_name_each_member_that_is_not_whole() -> None:
    told = refused(replace(TRIO, faults=((0, "CORRUPT"), (2, "silent")))).message
    assert "has the alarm CORRUPT" in told
    assert "node-2 does not answer: refused" in told
