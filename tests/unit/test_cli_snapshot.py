"""`snapshot`: what is stored is listed as it is, dry runs change nothing, and asking goes through the daemon."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import bootstrap_ports
from agent.adapters.outbox import OutboxFolder
from agent.cli import main
from agent.domain import snapshot
from agent.domain.outbox import Bounds
from agent.domain.request import ErrorResult, Record, Result, StepResult
from agent.domain.snapshot import Manifest, Outcome
from agent.errors import AwsUnavailable, StoreError
from agent.node import Node
from agent.operations.snapshot import SnapshotPorts
from tests.unit import stand_in_daemon
from tests.unit.fakes import STATUS, FakeEtcd, FakeStore, FakeTool, cut_off
from tests.unit.test_snapshot_domain import GOOD, checks, manifest, verification

MOMENT = "2026-01-31T12:00:00Z"
OUTPUT = {
    "snapshot_id": "20260131T120000Z-01234567", "retention_class": "hourly", "store": "s3://backups", "key": "the/key",
    "revision": 4711, "raw_size_bytes": 3 * 1024**2, "size_bytes": 1024**2, "stored": True, "already": False,
    "checks": {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": "unavailable"},
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("ETCD_AGENT_CLUSTER", "prod")
    monkeypatch.setenv("COLUMNS", "220")
    return tmp_path


def stored(root: Path, hour: int, **changes: Any) -> Manifest:
    """Puts a manifest into the node's directory store, under its key."""
    requested_at = f"2026-01-31T{hour:02}:00:00Z"
    identifier = snapshot.snapshot_id(requested_at, "snapshot-0123456789abcdef")
    made = manifest(requested_at=requested_at, snapshot_id=identifier, **changes)
    put(root, snapshot.manifest_key(made.retention_class, "prod", identifier), snapshot.encode(made))
    return made


def found(root: Path, of: Manifest, outcome: Outcome, message: str = "") -> None:
    """Puts the record of a later verification beside a manifest."""
    record = msgspec.structs.replace(verification(outcome), snapshot_id=of.snapshot_id, message=message)
    key = snapshot.verification_key(of, "structure", datetime(2026, 2, 1, tzinfo=UTC))
    put(root, key, snapshot.encode(record))


def put(root: Path, key: str, content: bytes) -> None:
    path = root / "var/lib/etcd-agent/snapshots" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> tuple[str, str]:
    assert main(["snapshot", *words]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return told.out, told.err


def document(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run(capsys, code, *words, "--json")[0])
    return made


def test_the_list_is_newest_first_and_marks_the_newest_good_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = stored(root, 10, retention_class="monthly")
    good = stored(root, 11, checks=checks(GOOD | {"stored": "unavailable"}))
    bad = stored(root, 12, checks=checks(GOOD | {"fresh": "skipped"}), retention_class="emergency")
    listed = document(capsys, 0, "list")
    assert [one["snapshot_id"] for one in listed["snapshots"]] == [
        bad.snapshot_id, good.snapshot_id, old.snapshot_id,
    ]  # fmt: skip
    assert listed["latest"] == good.snapshot_id
    assert [one["why_not_good"] for one in listed["snapshots"]] == [["fresh skipped"], [], []]
    rows = [" ".join(line.split()) for line in run(capsys, 0, "list")[0].splitlines()]
    assert any(row.startswith(good.snapshot_id) and row.endswith("stored unavailable node-1 latest") for row in rows)
    assert any(row.startswith(bad.snapshot_id) and row.endswith("no: fresh skipped") for row in rows)
    assert any(row.startswith(bad.snapshot_id) and "stored" in row and "fresh skipped node-1" in row for row in rows)
    assert [one["verified"]["level"] for one in listed["snapshots"]] == ["stored", "fresh", "stored"]


def test_what_was_found_damaged_later_says_so_and_is_not_the_latest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, damaged = stored(root, 10), stored(root, 11)
    found(root, damaged, "failed", "the raw bytes differ")
    found(root, good, "passed")
    listed = document(capsys, 0, "list")
    assert listed["latest"] == good.snapshot_id
    assert [one["found_damaged"] for one in listed["snapshots"]] == [MOMENT, ""]
    assert [one["last_read_back"] for one in listed["snapshots"]] == ["", MOMENT]
    table, _ = run(capsys, 0, "list")
    assert "found damaged 2026-01-31T12:00:00Z: the raw bytes differ" in table
    rows = {line.split()[0]: line for line in table.splitlines() if line}
    assert "DAMAGED, found" in rows[damaged.snapshot_id]
    assert "DAMAGED" not in rows[good.snapshot_id]
    assert ", read back" in rows[good.snapshot_id]
    assert "DAMAGED, found" in run(capsys, 0, "show", damaged.snapshot_id)[0]


def test_a_damaged_manifest_is_told_and_does_not_hide_the_others(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = stored(root, 10)
    put(root, "hourly/manifest/prod/20260131T110000Z-00000000.json", b'{"snapshot_id": ')
    listed = document(capsys, 0, "list")
    assert [one["snapshot_id"] for one in listed["snapshots"]] == [good.snapshot_id]
    assert "20260131T110000Z-00000000.json can not be read" in listed["damaged"][0]["message"]
    table, logged = run(capsys, 0, "list")
    assert "damaged: hourly/manifest/prod/20260131T110000Z-00000000.json" in table
    assert logged == ""


def test_an_odd_time_in_a_record_does_not_hide_the_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = stored(root, 10)
    odd = msgspec.structs.replace(verification("failed"), snapshot_id=one.snapshot_id, checked_at="yesterday")
    put(root, snapshot.verification_key(one, "structure", datetime(2026, 2, 1, tzinfo=UTC)), snapshot.encode(odd))
    assert "DAMAGED, found yesterday" in run(capsys, 0, "list")[0]


def test_an_empty_store_says_what_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, 0, "list")["latest"] is None
    assert "there is no good snapshot: `etcd-agent snapshot create`" in run(capsys, 0, "list")[0]


def test_show_has_the_manifest_and_all_verifications(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = stored(root, 10, live_keys=1234)
    found(root, one, "failed", "the raw bytes differ")
    shown = document(capsys, 0, "show", one.snapshot_id)
    assert shown["manifest"] == json.loads(snapshot.encode(one))
    assert [record["message"] for record in shown["verifications"]] == ["the raw bytes differ"]
    assert shown["good"] is False
    screen, _ = run(capsys, 0, "show", one.snapshot_id)
    for text in (one.raw_sha256, one.data.sha256, one.trace_id, "1,234 live", "fingerprint etcd_ca", "the raw bytes"):
        assert text in screen


@pytest.mark.parametrize("wanted", ["latest", "20260131T110000Z-00000000", "../../../etc/passwd"])
def test_what_is_not_there_is_told(root: Path, capsys: pytest.CaptureFixture[str], wanted: str) -> None:
    assert document(capsys, 1, "show", wanted)["error"]["code"] == "snapshot_not_found"


def test_a_store_that_may_not_be_read_asks_for_sudo(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = StoreError("the store can not be used")
    error.__cause__ = PermissionError(13, "Permission denied")
    store = FakeStore()
    store.failures.always("keys", error)
    monkeypatch.setattr(bootstrap_ports, "make_store", lambda node: store)
    assert "sudo" in document(capsys, 1, "list")["error"]["hint"]


def answer(record: Record) -> Result:
    request = record.request
    steps = (StepResult("preflight", "succeeded", 200), StepResult("save", "succeeded", 1300))
    output = OUTPUT if request.operation == "snapshot" else {"verified": [], "store": "s3://backups"}
    return Result(request.op_id, 1, request.trace_id, request.operation, "succeeded", 1, MOMENT, MOMENT, steps, output)


@pytest.mark.parametrize(
    "words, operation, params",
    [
        (["create"], "snapshot", {}),
        (["create", "--emergency"], "snapshot", {"emergency": "true"}),
        (["verify", "latest"], "verify", {"id": "latest"}),
        (["verify", "20260131T120000Z-01234567"], "verify", {"id": "20260131T120000Z-01234567"}),
        (["verify", "--all"], "verify", {"id": "all"}),
    ],
)
def test_the_daemon_is_asked_for_what_the_words_say(
    root: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], operation: str, params: dict[str, str]
) -> None:
    with stand_in_daemon.running(root, answer) as daemon:
        assert document(capsys, 0, *words)["state"] == "done"
    (request,) = daemon.asked
    assert (request.operation, request.params) == (operation, params)


def test_create_prints_what_the_on_call_wants(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in_daemon.running(root, answer) as daemon:
        screen, _ = run(capsys, 0, "create")
    (request,) = daemon.asked
    for text in (
        "20260131T120000Z-01234567", "4711", "3.0 MiB, 1.0 MiB stored", "s3://backups", "the/key",
        "trailer, structure, fresh, stored unavailable", request.op_id, request.trace_id, "1.5 s",
    ):  # fmt: skip
        assert text in screen


def test_a_failed_one_tells_the_error_and_the_next_step_on_stderr(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ErrorResult("refused", "[corrupt] member a has the alarm", "replace it")

    def refuse(record: Record) -> Result:
        return Result(record.request.op_id, 1, record.request.trace_id, "snapshot", "refused", 1, MOMENT, MOMENT,
                      (StepResult("preflight", "refused", 10),), {}, error)  # fmt: skip

    with stand_in_daemon.running(root, refuse):
        screen, told = run(capsys, 3, "create")
    assert "preflight" in screen
    assert "refused: [corrupt] member a has the alarm\nnext: replace it" in told


@pytest.mark.parametrize("words", [[], ["latest", "--all"]])
def test_verify_wants_one_or_all(root: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    assert document(capsys, 2, "verify", *words)["error"]["code"] == "bad_input"


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SnapshotPorts:
    outbox = OutboxFolder(tmp_path / "outbox", Bounds(8, 10**9))
    made = SnapshotPorts(FakeEtcd(), FakeTool(), FakeStore(), lambda folder: 0, outbox)

    def of(node: Node) -> SnapshotPorts:
        return made

    monkeypatch.setattr(bootstrap_ports, "make_snapshot_ports", of)
    return made


def test_a_dry_run_gives_the_plan_and_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], ports: SnapshotPorts
) -> None:
    verdict = document(capsys, 0, "create", "--dry-run")
    assert (verdict["would_run"], verdict["plan"]["retention_class"]) == (True, "monthly")
    assert verdict["plan"]["freshness"] == "confirmed by node-2"
    assert verdict["daemon_is_there"] is False
    assert "no daemon is running" in run(capsys, 0, "create", "--dry-run")[0]
    assert list(root.iterdir()) == []
    assert isinstance(ports.store, FakeStore)
    assert ports.store.objects == {}


def test_a_dry_run_of_what_would_be_refused_says_why_with_the_same_exit_code(
    root: Path, capsys: pytest.CaptureFixture[str], ports: SnapshotPorts
) -> None:
    assert isinstance(ports.etcd, FakeEtcd)
    ports.etcd.statuses = [cut_off()]
    verdict = document(capsys, 3, "create", "--dry-run")
    assert (verdict["would_run"], verdict["plan"]) == (False, {})
    assert verdict["error"]["message"].startswith("[no-leader]")
    assert "[no-leader]" in run(capsys, 3, "create", "--dry-run")[0]
    assert document(capsys, 0, "create", "--dry-run", "--emergency")["plan"]["retention_class"] == "emergency"


def test_a_dry_run_while_the_store_is_away_says_that_it_would_wait_in_the_outbox(
    root: Path, ports: SnapshotPorts, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the operation itself would, which succeeds."""
    assert isinstance(ports.store, FakeStore)
    ports.store.failures.always("keys", AwsUnavailable("the bucket is away"))
    plan = document(capsys, 0, "create", "--dry-run")["plan"]
    assert (plan["stored"], "the bucket is away" in plan["why_not_stored"]) == (False, True)
    assert "outbox" in run(capsys, 0, "create", "--dry-run")[0]


def test_a_dry_run_asks_for_the_room_that_the_operation_needs(
    root: Path, capsys: pytest.CaptureFixture[str], ports: SnapshotPorts
) -> None:
    assert isinstance(ports.etcd, FakeEtcd)
    ports.etcd.statuses = [replace(STATUS, db_size_bytes=2**62)]
    assert document(capsys, 1, "create", "--dry-run")["error"]["code"] == "no_space"


def test_a_dry_verification_names_what_would_be_read(
    root: Path, capsys: pytest.CaptureFixture[str], ports: SnapshotPorts
) -> None:
    assert isinstance(ports.store, FakeStore)
    one = manifest()
    ports.store.objects[snapshot.manifest_key("hourly", "prod", one.snapshot_id)] = snapshot.encode(one)
    before = dict(ports.store.objects)
    for words in (["--all"], ["latest"], [one.snapshot_id]):
        assert document(capsys, 0, "verify", *words, "--dry-run")["plan"]["snapshots"] == [one.snapshot_id]
    assert document(capsys, 1, "verify", "20260131T120000Z-00000000", "--dry-run")["would_run"] is False
    assert ports.store.objects == before
