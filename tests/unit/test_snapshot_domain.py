"""Snapshots as kept: names come from the request alone, and only what was verified is ever good."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import retention, snapshot
from agent.domain.snapshot import Backup, Check, Level, Manifest, Outcome, RetentionClass, StoredData, Verification
from agent.errors import SnapshotInvalid

REQUESTED_AT = "2026-01-31T12:00:00Z"
OP_ID = "snapshot-0123456789abcdef"
DATA_KEY = snapshot.data_key("hourly", "prod", snapshot.snapshot_id(REQUESTED_AT, OP_ID), "89abcdef")
GOOD: dict[Level, Outcome] = {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": "passed"}


def checks(outcomes: dict[Level, Outcome]) -> tuple[Check, ...]:
    return tuple(Check(level, outcome, REQUESTED_AT) for level, outcome in outcomes.items())


def manifest(**changes: Any) -> Manifest:
    made = Manifest(
        snapshot_id=snapshot.snapshot_id(REQUESTED_AT, OP_ID), retention_class="hourly", cluster="prod",
        etcd_cluster_id="f" * 16, member_id="a", node="node-1", instance_id="i-0123456789abcdef0",
        etcd_version="3.5.16", tool="etcdutl 3.5.16", revision=21, hash=2**32 - 1, total_key=26, live_keys=None,
        raw_size_bytes=24608, raw_sha256="1" * 64, data=StoredData(DATA_KEY, 99, "2" * 64), checks=checks(GOOD),
        fingerprints={"etcd_ca": "3" * 64}, requested_at=REQUESTED_AT, started_at=REQUESTED_AT,
        finished_at=REQUESTED_AT, trace_id="4" * 32, op_id=OP_ID, agent_version="1.0",
    )  # fmt: skip
    made = msgspec.structs.replace(made, **changes)
    own = snapshot.data_key(made.retention_class, made.cluster, made.snapshot_id, "89abcdef")
    return made if "data" in changes else msgspec.structs.replace(made, data=StoredData(own, 99, "2" * 64))


def verification(outcome: Outcome) -> Verification:
    return Verification(
        snapshot_id="x", level="structure", checks=(Check("structure", outcome, REQUESTED_AT),),
        checked_at=REQUESTED_AT, node="node-1", trace_id="4" * 32, op_id=OP_ID,
    )  # fmt: skip


def backup(
    requested_at: str = REQUESTED_AT, retention_class: RetentionClass = "monthly",
    outcomes: dict[Level, Outcome] | None = None, later: Sequence[Verification] = (),
) -> Backup:  # fmt: skip
    made = manifest(
        requested_at=requested_at, retention_class=retention_class, checks=checks(outcomes or GOOD),
        snapshot_id=snapshot.snapshot_id(requested_at, OP_ID),
    )  # fmt: skip
    return Backup(made, tuple(later))


def test_an_operation_has_one_name_whatever_happens_to_its_attempts() -> None:
    assert (
        snapshot.snapshot_id(REQUESTED_AT, OP_ID)
        == "20260131T120000Z-" + snapshot.snapshot_id("2020-01-01T00:00:00Z", OP_ID).rpartition("-")[2]
    )
    assert snapshot.snapshot_id(REQUESTED_AT, OP_ID) != snapshot.snapshot_id(REQUESTED_AT, "snapshot-2")


def test_keys_are_those_of_the_contract() -> None:
    identifier = "20260131T120000Z-01234567"
    assert snapshot.data_key("hourly", "prod", identifier, "89abcdef") == (
        f"hourly/data/prod/{identifier}-89abcdef.db.zst"
    )
    assert snapshot.manifest_key("hourly", "prod", identifier) == f"hourly/manifest/prod/{identifier}.json"
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    assert snapshot.verification_key(manifest(snapshot_id=identifier), "structure", moment) == (
        f"hourly/manifest/prod/{identifier}.verified-20260201T000000Z-structure.json"
    )


def test_a_manifest_and_its_later_verifications_are_told_apart_by_their_keys() -> None:
    one = manifest()
    key = snapshot.manifest_key("hourly", "prod", one.snapshot_id)
    beside = snapshot.verification_key(one, "drill", datetime(2026, 2, 1, tzinfo=UTC))
    assert (snapshot.id_of_manifest_key(key), snapshot.id_of_verification_key(key)) == (one.snapshot_id, None)
    assert (snapshot.id_of_manifest_key(beside), snapshot.id_of_verification_key(beside)) == (None, one.snapshot_id)
    for other in (
        "",
        "a/b.json",
        "a/20261399T000000Z-00000000.json",
        "a/00000101T000000Z-00000000.json",
        f"{key}\n",
        f"{key}.tmp",
        key.replace("-", "_"),
        f"{key}/x",
    ):
        assert snapshot.id_of_manifest_key(other) is None
        assert snapshot.id_of_verification_key(other) is None


def test_a_manifest_survives_its_file_and_fields_of_newer_versions_are_ignored() -> None:
    one = manifest()
    key = snapshot.manifest_key("hourly", "prod", one.snapshot_id)
    content = snapshot.encode(one)
    assert snapshot.decode_manifest(content, key) == one
    assert snapshot.decode_manifest(content.replace(b"{", b'{"newer": {},', 1), key) == one


def test_a_manifest_under_another_name_is_damaged() -> None:
    one = manifest()
    with pytest.raises(SnapshotInvalid, match="names another snapshot"):
        snapshot.decode_manifest(snapshot.encode(one), snapshot.manifest_key("monthly", "prod", one.snapshot_id))


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../../../outside", f"{DATA_KEY}/..", DATA_KEY.replace("prod", "dev")]
)
def test_a_manifest_that_names_data_of_others_is_damaged(key: str) -> None:
    one = manifest(data=StoredData(key, 99, "2" * 64))
    with pytest.raises(SnapshotInvalid, match="not its own"):
        snapshot.decode_manifest(snapshot.encode(one), snapshot.manifest_key("hourly", "prod", one.snapshot_id))


@given(cut=st.integers(0, 1800), garbled=st.binary(max_size=3))
def test_a_cut_or_garbled_manifest_is_read_or_damaged(cut: int, garbled: bytes) -> None:
    whole = snapshot.encode(manifest())
    key = snapshot.manifest_key("hourly", "prod", manifest().snapshot_id)
    for content in (whole[:cut], whole[:cut] + garbled + whole[cut + len(garbled) :]):
        try:
            found = snapshot.decode_manifest(content, key)
        except SnapshotInvalid:
            continue
        retention.choose_class([Backup(found)], REQUESTED_AT)


@pytest.mark.parametrize("field", ["requested_at", "started_at", "finished_at"])
@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00+01:00"])
def test_a_manifest_with_a_time_that_there_is_not_is_damaged(field: str, text: str) -> None:
    one = manifest(**{field: text})
    with pytest.raises(SnapshotInvalid):
        snapshot.decode_manifest(snapshot.encode(one), snapshot.manifest_key("hourly", "prod", one.snapshot_id))


@pytest.mark.parametrize(
    "changes",
    [
        {"raw_size_bytes": -1}, {"raw_size_bytes": 10**310}, {"revision": 2**63}, {"hash": -1}, {"live_keys": 10**30},
        {"checks": (*checks(GOOD), Check("trailer", "failed", REQUESTED_AT))},
        {"checks": (Check("trailer", "failed", REQUESTED_AT), *checks(GOOD))},
    ],
)  # fmt: skip
def test_a_manifest_with_a_count_that_there_is_not_or_two_outcomes_of_one_check_is_damaged(
    changes: dict[str, Any],
) -> None:
    one = manifest(**changes)
    with pytest.raises(SnapshotInvalid):
        snapshot.decode_manifest(snapshot.encode(one), snapshot.manifest_key("hourly", "prod", one.snapshot_id))


def test_a_verification_without_a_check_passed_nothing() -> None:
    assert not msgspec.structs.replace(verification("passed"), checks=()).passed
    assert not backup(later=[msgspec.structs.replace(verification("passed"), checks=())]).is_good


@given(st.binary(max_size=60))
def test_any_bytes_are_a_verification_or_damaged(content: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        snapshot.decode_verification(content, "key")


@dataclass(frozen=True)
class Verdict:
    """Checks, and whether they make a backup good."""

    changes: dict[Level, Outcome]
    good: bool


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict({}, good=True),
        Verdict({"stored": "unavailable"}, good=True),
        Verdict({"stored": "failed"}, good=False),
        Verdict({"stored": "skipped"}, good=False),
        Verdict({"trailer": "unavailable"}, good=False),
        Verdict({"structure": "failed"}, good=False),
        Verdict({"fresh": "skipped"}, good=False),
        Verdict({"content": "failed"}, good=True),
    ],
)
def test_good_needs_trailer_structure_and_fresh_passed_and_stored_not_failed(verdict: Verdict) -> None:
    assert backup(outcomes=GOOD | verdict.changes).is_good is verdict.good


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_check_that_was_not_made_is_not_passed(missing: Level) -> None:
    assert not backup(outcomes={level: outcome for level, outcome in GOOD.items() if level != missing}).is_good


def test_what_was_found_damaged_later_is_good_no_more() -> None:
    assert backup(later=[verification("passed")]).is_good
    assert not backup(later=[verification("passed"), verification("failed")]).is_good


@given(st.permutations(["2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z", "2025-01-31T12:00:00Z"]))
def test_the_latest_is_the_newest_good_one_in_whatever_order_they_come(times: Sequence[str]) -> None:
    found = [backup(moment, outcomes=GOOD | ({"fresh": "skipped"} if "T13" in moment else {})) for moment in times]
    latest = snapshot.latest_good(found)
    assert latest is not None
    assert latest.manifest.requested_at == "2026-01-31T12:00:00Z"
    assert [one.manifest.requested_at for one in snapshot.newest_first(found)] == sorted(times, reverse=True)


def test_nothing_good_is_no_latest() -> None:
    assert snapshot.latest_good([]) is None
    assert snapshot.latest_good([backup(outcomes={"trailer": "passed"})]) is None
