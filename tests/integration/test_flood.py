"""Floods of requests: bounded when they come, cheap while they wait, and none of them is lost."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import files, spool
from agent.adapters.spool import MOST_WAITING, Spool
from agent.domain.request import encode
from agent.errors import SpoolFull
from agent.intake import MOST_REJECTED
from tests.integration import intake_node
from tests.integration.intake_node import record
from tests.integration.scripted_node import ScriptedNode, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
HELD = "snapshot-held"
QUICK_WORKER = r"""# ROOT -- OP_ID
set -- "$1" "$3"
folder="$1/spool" result='{"op_id":"'$2'","generation":1,"trace_id":"11111111111111111111111111111111",'
result="$result"'"operation":"snapshot","status":"succeeded","attempt":1,"started_at":"2026-01-31T12:00:00Z",'
result="$result"'"finished_at":"2026-01-31T12:00:01Z"}'
echo "$2 1 quick $$" >> "$1/ran"
while [ "$2" = snapshot-held ] && [ ! -e "$1/go-on" ]; do sleep 0.05; done
sed "s/\"results\":\\[\\]/\"results\":[$result]/" "$folder/running/$2.json" > "$folder/done/.$2.tmp" || exit 1
mv "$folder/done/.$2.tmp" "$folder/done/$2.json" && rm "$folder/running/$2.json"
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScriptedNode]:
    with node_in(tmp_path) as made:
        yield made


def test_a_thousand_requests_against_a_busy_slot_all_run_once_and_the_next_one_is_told(
    node: ScriptedNode, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.sh"
    worker.write_text(QUICK_WORKER)
    daemon = node.start("sh", str(worker))
    node.submit(HELD)
    node.until_started(HELD)
    op_ids = [f"snapshot-{number:04d}" for number in range(MOST_WAITING)]
    for op_id in op_ids:
        assert node.spool.submit(node.record(op_id))
    with pytest.raises(SpoolFull):
        node.spool.submit(node.record("snapshot-more"))
    told = node.command("submit", "snapshot", "--json", "--op-id", "snapshot-more")
    assert (told.returncode, json.loads(told.stdout)["error"]["code"]) == (1, "spool_full")
    joined = node.command("submit", "snapshot", "--json", "--op-id", op_ids[500], "--timeout", "0.1")
    assert (joined.returncode, json.loads(joined.stdout)["state"]) == (4, "queued")
    node.go_on()
    wait_until(
        lambda: len(node.spool.names("done")) == MOST_WAITING + 1, "not all end", timeout_s=300.0, child=daemon
    )  # fmt: skip
    assert sorted(line[0] for line in node.ran()) == sorted([HELD, *op_ids])
    wait_until(node.nothing_is_left, "something is left")


def test_of_twenty_at_once_only_those_are_taken_that_have_room(node: ScriptedNode) -> None:
    node.spool.create()
    for number in range(MOST_WAITING - 10):
        node.spool.path("incoming", f"snapshot-{number:04d}").write_bytes(encode(node.record(f"snapshot-{number:04d}")))
    commands = [
        subprocess.Popen(
            node.argv("submit", "snapshot", "--no-wait", "--op-id", f"snapshot-new{number:02d}"),
            env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for number in range(20)
    ]  # fmt: skip
    assert sorted(command.wait(60) for command in commands) == [0] * 10 + [1] * 10
    assert len(node.spool.names("incoming")) == MOST_WAITING


def test_counting_and_linking_are_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Spool(tmp_path / "spool")
    made.create()
    for number in range(MOST_WAITING - 10):
        made.path("incoming", f"snapshot-{number:04d}").touch()
    count, outcomes = files.count, list[bool]()

    def counted_slowly(folder: Path) -> int:
        counted = count(folder)
        time.sleep(0.02)  # a wide gap for the others, not what makes this right
        return counted

    def submit(number: int) -> None:
        try:
            outcomes.append(made.submit(record(f"snapshot-new{number:02d}")))
        except SpoolFull:
            outcomes.append(False)

    monkeypatch.setattr(files, "count", counted_slowly)
    threads = [threading.Thread(target=submit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 10
    assert len(made.names("incoming")) == MOST_WAITING


def test_who_is_stopped_at_the_gate_stops_nobody_but_near_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "GATE_WAIT_S", 0.05)
    made = Spool(tmp_path / "spool")
    made.create()
    with files.folder_lock(made.folder / "incoming", wait_s=0.0) as held:
        assert held
        assert made.submit(record("snapshot-first"))
        for number in range(MOST_WAITING * 9 // 10 - 1):
            made.path("incoming", f"snapshot-{number:04d}").touch()
        with pytest.raises(SpoolFull):
            made.submit(record("snapshot-more"))
        assert not made.submit(record("snapshot-first"))
    assert made.submit(record("snapshot-more"))


def test_what_waits_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with intake_node.node_in(tmp_path) as node:
        node.submit(record("snapshot-held"), "hang")
        node.until_started("snapshot-held")
        for number in range(5):
            node.submit(record(f"snapshot-{number:04d}"))
        node.cycle()
        reads: list[str] = []
        read = Spool.read

        def counted(self: Spool, state: str, op_id: str) -> object:
            reads.append(f"{state}/{op_id}")
            return read(self, state, op_id)

        monkeypatch.setattr(Spool, "read", counted)
        node.cycle()
        assert reads == []
        node.spool.path("incoming", "snapshot-0003").unlink()
        node.spool.path("incoming", "snapshot-0002").write_bytes(b"{")
        node.cycle()
        assert reads == ["incoming/snapshot-0002"]
        assert "3 queued" in node.intake.describe()
        node.go_on()
        node.until("snapshot-held", "snapshot-0000", "snapshot-0001", "snapshot-0004")


def test_a_flood_of_what_is_no_request_is_put_aside_up_to_a_bound(tmp_path: Path) -> None:
    with intake_node.node_in(tmp_path) as node:
        for number in range(MOST_REJECTED + 5):
            node.spool.path("incoming", f"snapshot-{number:04d}").touch()
        node.cycle()
        (node.spool.folder / "incoming" / "folder").mkdir()
        node.cycle()
        assert len(list((node.spool.folder / "rejected").iterdir())) == 2 * MOST_REJECTED
        assert node.spool.rejections.last("snapshot-0000") == ""
        assert node.reasons()
        assert "folder" in {reason["name"] for reason in node.reasons()}
