"""Parked operations: they hold nothing, are asked again, go on in turn, end in time, and no crash loses them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.cancellation import Cancellation
from agent.domain.request import Acceptance, Parking, Record
from tests.integration.scripted_node import ScriptedNode, is_alive, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
FIRST, SECOND, DEAD = "retire-1111", "retire-2222", "retire-dead"
SOON = {"PARKED_INTERVAL_S": "0.2"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScriptedNode]:
    with node_in(tmp_path) as made:
        (made.state / "recheck").mkdir()
        yield made


def answer(node: ScriptedNode, op_id: str, word: str) -> None:
    """What the operation is told when it is asked again."""
    path = node.state / "recheck" / f".{op_id}"
    path.write_text(word)
    path.rename(node.state / "recheck" / op_id)


def park(node: ScriptedNode, op_id: str, words: str = "park succeed") -> None:
    node.submit(op_id, words, operation="retire")
    wait_until(lambda: node.spool.path("waiting", op_id).exists(), f"{op_id} is not parked")


def asked(node: ScriptedNode, op_id: str = "") -> list[list[str]]:
    path = node.state / "rechecked"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if not op_id or line[0] == op_id]


def farewells(node: ScriptedNode) -> list[str]:
    path = node.state / "farewells"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def until_clean(node: ScriptedNode) -> None:
    wait_until(
        lambda: node.nothing_is_left(("incoming", "waiting", "running", "progress", "cancel")), "something is left"
    )


def test_it_holds_no_slot_is_asked_again_and_goes_on_when_it_may(node: ScriptedNode) -> None:
    node.start(**SOON)
    park(node, FIRST)
    node.submit(SECOND, operation="retire")
    assert node.until_ended(SECOND).status == "succeeded"
    wait_until(lambda: len(asked(node, FIRST)) >= 2, "it is not asked again and again")
    assert node.spool.path("waiting", FIRST).exists()
    answer(node, FIRST, "go")
    result = node.until_ended(FIRST)
    assert (result.status, result.attempt) == ("succeeded", 1)  # waiting costs no attempt
    assert [line[1:3] for line in node.ran(FIRST)] == [["1", "park"], ["1", "succeed"]]
    until_clean(node)


def test_it_may_park_many_times_and_keeps_the_time_since_when(node: ScriptedNode) -> None:
    node.start(**SOON)
    answer(node, FIRST, "go")
    park(node, FIRST, "park park park park park succeed")
    since = node.spool.read("waiting", FIRST).parking
    result = node.until_ended(FIRST)
    assert (result.status, result.attempt) == ("succeeded", 1)
    assert len(node.ran(FIRST)) == 6
    assert since is not None
    until_clean(node)


def test_commands_tell_why_it_waits_and_join_it(node: ScriptedNode) -> None:
    node.start()
    node.submit("snapshot-1111", "park")
    wait_until(lambda: node.spool.path("waiting", "snapshot-1111").exists(), "it is not parked")
    joined = node.command("submit", "snapshot", "--json", "--op-id", "snapshot-1111", "--timeout", "0.1")
    told = json.loads(joined.stdout)
    assert (joined.returncode, told["state"], told["waits_for"]["rule"]) == (4, "waiting", "G1")
    assert told["waits_for"]["hint"] == "repair it"
    shown = node.command("ops", "show", "snapshot-1111")
    for text in ("[G1] one is away", "repair it", "waits since", "asked again"):
        assert text in shown.stdout
    listed = json.loads(node.command("ops", "list", "--json").stdout)["operations"]
    assert [(row["state"], row["rule"], row["message"]) for row in listed] == [("waiting", "G1", "one is away")]
    assert "[G1] one is away" in node.command("ops", "list").stdout
    other = node.command("submit", "snapshot", "--json", "--op-id", "snapshot-1111", "--param", "emergency=true")
    assert other.returncode == 2
    assert node.spool.submit(node.record("snapshot-1111"))  # by a command that looked a moment earlier
    wait_until(lambda: not node.spool.names("incoming"), "the duplicate stays")
    assert len(node.ran()) == 1


def test_a_dead_target_is_asked_and_goes_first(node: ScriptedNode) -> None:
    node.start(PARKED_INTERVAL_S="1")
    park(node, FIRST)
    park(node, SECOND)
    park(node, DEAD, "park-dead succeed")
    for op_id in (FIRST, SECOND, DEAD):
        answer(node, op_id, "go")
    for op_id in (FIRST, SECOND, DEAD):
        node.until_ended(op_id)
    rounds = [line[0] for line in asked(node) if line[2] == "go"]
    assert rounds.index(DEAD) < 3
    until_clean(node)


def test_of_those_that_are_due_the_dead_one_is_first_and_alone(node: ScriptedNode) -> None:
    """A restart makes all of them due at once."""
    daemon = node.start()
    for op_id, words in ((FIRST, "park"), (SECOND, "park"), (DEAD, "park-dead")):
        park(node, op_id, words)
    answer(node, DEAD, "hang")
    daemon.process.terminate()
    daemon.process.wait(20)
    node.start()
    wait_until(lambda: bool(asked(node)), "none is asked")
    node.submit("retire-3333", operation="retire")  # that is served meanwhile
    node.until_ended("retire-3333")
    assert [line[0] for line in asked(node)] == [DEAD]
    answer(node, DEAD, "park")
    node.go_on()
    wait_until(lambda: len(asked(node)) >= 3, "the others are not asked")
    assert {line[0] for line in asked(node)} == {FIRST, SECOND, DEAD}


def test_one_that_hangs_is_ended_and_waits_on(node: ScriptedNode) -> None:
    node.start(PARKED_INTERVAL_S="0.2", CARETAKER_S="0.5")
    answer(node, FIRST, "hang")
    park(node, FIRST)
    wait_until(lambda: len(asked(node)) >= 2, "it is not asked again")
    assert not is_alive(int(asked(node)[0][3]))
    answer(node, FIRST, "go")
    assert node.until_ended(FIRST).status == "succeeded"


@pytest.mark.parametrize(
    "word, status, code", [("refuse", "refused", "refused"), ("fail", "failed", "snapshot_invalid"),
                           ("break", "failed", "internal_error")],
)  # fmt: skip
def test_it_ends_when_it_is_refused_for_good_or_fails(node: ScriptedNode, word: str, status: str, code: str) -> None:
    node.start(**SOON)
    park(node, FIRST)
    answer(node, FIRST, word)
    result = node.until_ended(FIRST)
    assert result.error is not None
    assert (result.status, result.error.code) == (status, code)
    assert farewells(node) == [FIRST]
    until_clean(node)


@pytest.mark.parametrize("word", ["away", "crash"])
def test_what_can_not_be_asked_now_waits_on(node: ScriptedNode, word: str) -> None:
    node.start(**SOON)
    answer(node, FIRST, word)
    park(node, FIRST)
    wait_until(lambda: len(asked(node)) >= 3, "it is not asked again")
    answer(node, FIRST, "go")
    assert node.until_ended(FIRST).status == "succeeded"


@pytest.mark.parametrize("word", ["park", "hang", "crash"])
def test_at_its_deadline_it_is_refused_with_the_last_reason(node: ScriptedNode, word: str) -> None:
    node.start(TIMEOUT_S="2", **SOON)
    answer(node, FIRST, word)
    park(node, FIRST)
    result = node.until_ended(FIRST)
    assert result.error is not None
    assert (result.status, result.error.code, result.error.hint) == ("refused", "refused", "repair it")
    assert result.error.message.startswith("[G1] it waited since")
    assert farewells(node) == [FIRST]
    assert len(node.ran()) == 1
    until_clean(node)


def test_a_parked_one_can_be_cancelled_even_while_it_is_asked(node: ScriptedNode) -> None:
    node.start(**SOON)
    park(node, FIRST)
    answer(node, SECOND, "hang")
    park(node, SECOND)
    wait_until(lambda: bool(asked(node, SECOND)), "it is not asked")
    for op_id in (FIRST, SECOND):
        assert node.spool.cancellations.ask(Cancellation(op_id, 1, "2" * 32, "2026-01-31T12:00:00Z"))
        result = node.until_ended(op_id)
        assert result.error is not None
        assert result.error.code == "cancelled"
        assert "while it waited for the cluster" in result.error.message
    assert sorted(farewells(node)) == [FIRST, SECOND]
    until_clean(node)


def test_a_ready_one_waits_for_its_slot_and_goes_before_what_is_new(node: ScriptedNode) -> None:
    node.start(**SOON)
    park(node, FIRST)
    node.submit(SECOND, "hang", operation="retire")
    node.until_started(SECOND)
    node.submit("retire-3333", operation="retire")
    answer(node, FIRST, "go")
    wait_until(lambda: node.count("parked.checked") > 0 and may_go(node, FIRST), "it is not let go")
    before = len(asked(node, FIRST))
    wait_until(lambda: len(asked(node, FIRST)) > before, "its claim is not renewed meanwhile")
    node.go_on()
    for op_id in (FIRST, SECOND, "retire-3333"):
        node.until_ended(op_id)
    assert [line[0] for line in node.ran()] == [FIRST, SECOND, FIRST, "retire-3333"]
    told = [line["op_id"] for line in node.lines() if line["event"] in ("operation.started", "operation.finished")]
    assert told[-4:] == [FIRST, FIRST, "retire-3333", "retire-3333"]  # one after the other


def may_go(node: ScriptedNode, op_id: str) -> bool:
    parking = node.spool.read("waiting", op_id).parking
    return parking is not None and parking.may_go


def test_a_stop_and_a_kill_of_the_daemon_lose_nothing(node: ScriptedNode) -> None:
    daemon = node.start(**SOON)
    answer(node, FIRST, "hang")
    park(node, FIRST)
    wait_until(lambda: bool(asked(node)), "it is not asked")
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0
    assert not is_alive(int(asked(node)[0][3]))
    daemon = node.start(**SOON)
    wait_until(lambda: len(asked(node)) >= 2, "it is not asked after the restart")
    daemon.kill()  # its caretaker lives on
    answer(node, FIRST, "go")
    node.start(**SOON)
    assert is_alive(int(asked(node)[1][3]))
    node.go_on()
    assert node.until_ended(FIRST).status == "succeeded"
    until_clean(node)


def parked_record(node: ScriptedNode, op_id: str, *, may_go: bool, boot_id: str = "another boot") -> Record:
    moment = "2026-01-31T12:00:00Z"
    parking = Parking("G1", "one is away", "repair it", 1, moment, moment, moment, may_go)
    acceptance = Acceptance(moment, boot_id, 1.0, 60)
    return Record(node.record(op_id, operation="retire").request, 1, 0, acceptance, parking=parking)


@pytest.mark.parametrize("ready", [False, True])
def test_a_move_that_a_crash_cut_in_half_is_one_operation(node: ScriptedNode, ready: bool) -> None:
    """`waiting/` and `running/` both have it, as a worker that parks and a daemon that lets go leave it."""
    node.spool.create()
    node.script(FIRST, "succeed")
    record = parked_record(node, FIRST, may_go=ready)
    node.spool.park(record)
    node.spool.update_running(record)
    answer(node, FIRST, "go")
    node.start(**SOON)
    assert node.until_ended(FIRST).attempt == 1
    assert len(node.ran()) == 1
    assert node.count("operation.rerun") == 0  # it was parked, and let go
    until_clean(node)


def test_after_a_reboot_its_time_starts_anew(node: ScriptedNode) -> None:
    node.spool.create()
    node.spool.park(parked_record(node, FIRST, may_go=False))
    node.start(**SOON)
    wait_until(lambda: bool(asked(node)), "it is not asked")
    acceptance = node.spool.read("waiting", FIRST).acceptance
    assert acceptance is not None
    assert acceptance.boot_id != "another boot"


def test_an_end_that_a_crash_cut_in_half_is_an_end(node: ScriptedNode) -> None:
    node.start(**SOON)
    answer(node, FIRST, "go")
    park(node, FIRST)
    node.until_ended(FIRST)
    done = node.spool.path("done", FIRST).read_bytes()
    node.spool.path("waiting", FIRST).write_bytes(done)
    node.submit(SECOND, operation="retire")
    node.until_ended(SECOND)
    until_clean(node)
    assert len(node.ran(FIRST)) == 2


def test_a_damaged_record_is_put_aside(node: ScriptedNode) -> None:
    node.start(**SOON)
    (node.spool.folder / "waiting" / f"{FIRST}.json").write_text("{")
    node.submit(SECOND, operation="retire")
    node.until_ended(SECOND)
    wait_until(lambda: bool(node.spool.rejections.last(FIRST)), "it is not told")
    until_clean(node)


def test_an_operation_that_has_no_second_question_is_refused_at_once(node: ScriptedNode) -> None:
    node.start()
    node.submit(FIRST, "park", operation="restore")
    result = node.until_ended(FIRST)
    assert result.error is not None
    assert (result.status, result.error.code) == ("refused", "refused")
