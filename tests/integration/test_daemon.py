"""The daemon as systemd runs it: kills at any time end in one manifest, stops are clean, and it says what it does."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import files, process
from agent.domain.keeping import Ledger
from tests.integration.daemon_node import DaemonNode, Manager, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
FIRST, SECOND = "snapshot-1111", "snapshot-2222"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        yield made


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def one_backup(node: DaemonNode) -> bool:
    """One manifest, whose data is the only data."""
    manifests = node.stored("manifest")
    assert len(manifests) == 1
    key = json.loads(manifests[0].read_text())["data"]["key"]
    return [str(path) for path in node.stored("data")] == [str(node.root / "var/lib/etcd-agent/snapshots" / key)]


def test_a_request_becomes_a_backup_and_every_line_and_child_has_its_trace(node: DaemonNode) -> None:
    node.start()
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"
    assert one_backup(node)
    assert node.nothing_half_is_left()
    lines = [line for line in node.lines() if not line["event"].startswith("daemon.")]
    assert {line["trace_id"] for line in lines} == {"1" * 32}
    assert {line["op_id"] for line in lines} == {FIRST}
    assert {line["cluster"] for line in lines} == {"prod"}
    calls = (node.etcd / "calls").read_text().splitlines()
    assert all(call.startswith(f"TRACE_ID={'1' * 32} ETCD_AGENT_OP_ID={FIRST} ") for call in calls)
    assert not any("must-not-be-used" in call for call in calls)
    assert all("--command-timeout" in call for call in calls if "--endpoints" in call)
    assert any(" get " in call and "--consistency=l" in call for call in calls)


def test_a_worker_killed_in_the_middle_runs_again_and_leaves_nothing(node: DaemonNode) -> None:
    node.start()
    node.hold()
    node.submit(FIRST)
    etcdctl = node.until_saving()
    os.kill(node.worker_of(etcdctl), signal.SIGKILL)
    second = node.until_saving(2)
    assert not is_alive(etcdctl)
    assert second != etcdctl
    node.go_on()
    result = node.until_ended(FIRST)
    assert (result.status, result.attempt) == ("succeeded", 2)
    assert one_backup(node)
    wait_until(node.nothing_half_is_left, "something half is left")


def test_a_daemon_killed_in_the_middle_loses_nothing_and_doubles_nothing(node: DaemonNode) -> None:
    """The worker lives on, as it does not under systemd, and the next daemon lets it end."""
    daemon = node.start()
    node.hold()
    node.submit(FIRST)
    node.until_saving()
    node.submit(SECOND, requested_at="2026-01-31T13:00:00Z")
    daemon.kill()
    node.start()
    assert node.spool.names("incoming") == [f"{SECOND}.json"]
    node.go_on()
    assert node.until_ended(FIRST).attempt == 1
    assert node.until_ended(SECOND).attempt == 1
    assert len(node.stored("manifest")) == len(node.stored("data")) == 2


def test_daemon_and_worker_killed_in_the_middle_end_in_one_manifest(node: DaemonNode) -> None:
    daemon = node.start()
    node.hold()
    node.submit(FIRST)
    etcdctl = node.until_saving()
    worker = node.worker_of(etcdctl)
    daemon.kill()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the worker lives")
    assert is_alive(etcdctl)
    node.start()
    node.until_saving(2)
    assert not is_alive(etcdctl)
    node.go_on()
    assert node.until_ended(FIRST).attempt == 2
    assert one_backup(node)


def test_a_kill_after_each_file_of_the_store_ends_in_one_manifest(node: DaemonNode) -> None:
    """What the store holds already is found again, whichever came last."""
    daemon = node.start()
    node.submit(FIRST)
    node.until_ended(FIRST)
    (manifest,) = node.stored("manifest")
    daemon.kill()
    done = node.spool.path("done", FIRST)
    done.rename(node.spool.path("running", FIRST))
    node.start()
    assert node.until_ended(FIRST).output["already"] is True
    assert node.stored("manifest") == [manifest]
    assert one_backup(node)


def test_sigterm_ends_an_idle_daemon_at_once(node: DaemonNode) -> None:
    daemon = node.start()
    daemon.process.terminate()
    assert daemon.process.wait(10) == 0
    assert node.count("daemon.stopped") == 1


def test_sigterm_lets_an_operation_end_that_can(node: DaemonNode) -> None:
    node.set_config("[daemon]\nstop_timeout_s = 30\n")
    daemon = node.start()
    node.hold()
    node.submit(FIRST)
    node.until_saving()
    daemon.process.terminate()
    wait_until(lambda: node.count("daemon.stopping") == 1, "the daemon does not stop")
    node.submit(SECOND)
    node.go_on()
    assert daemon.process.wait(20) == 0
    assert node.until_ended(FIRST).status == "succeeded"
    assert node.spool.names("incoming") == [f"{SECOND}.json"]


def test_sigterm_cleans_up_what_does_not_end_and_it_runs_again_later(node: DaemonNode) -> None:
    daemon = node.start()
    node.hold()
    node.submit(FIRST)
    etcdctl = node.until_saving()
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0
    assert not is_alive(etcdctl)
    assert node.count("operation.interrupted") == 1
    assert not list((node.root / "var/lib/etcd-agent/work").iterdir())
    assert node.stored("data") == []
    node.go_on()
    node.start()
    result = node.until_ended(FIRST)
    assert (result.status, result.attempt) == ("succeeded", 1)  # a stop of the service costs no attempt
    assert one_backup(node)


def test_a_second_sigterm_does_not_wait(node: DaemonNode) -> None:
    node.set_config("[daemon]\nstop_timeout_s = 600\n")
    daemon = node.start()
    node.hold()
    node.submit(FIRST)
    node.until_saving()
    daemon.process.terminate()
    wait_until(lambda: node.count("daemon.stopping") == 1, "the daemon does not stop")
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0


def test_systemd_is_told_what_it_does(node: DaemonNode, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    try:
        daemon = node.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="300000")
        assert manager.until("READY=1") == "READY=1\nSTATUS=idle; 0 queued; 0 ended since start"
        manager.until("WATCHDOG=1")
        node.hold()
        node.submit(FIRST)
        node.until_saving()
        node.submit(SECOND)
        assert manager.until("1 queued").startswith(f"STATUS=snapshot {FIRST}; 1 queued")
        before = len(manager.told)
        for _ in range(3):
            manager.until("WATCHDOG=1")
        assert len(manager.told) >= before + 3
        node.go_on()
        manager.until("idle; 0 queued; 2 ended")
        daemon.process.terminate()
        assert manager.until("STOPPING=1").startswith("STOPPING=1\nSTATUS=stopping")
        assert daemon.process.wait(10) == 0
    finally:
        manager.close()


def test_what_the_worker_starts_can_not_speak_to_systemd(node: DaemonNode, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    try:
        node.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="30000000")
        node.hold()
        node.submit(FIRST)
        worker = node.worker_of(node.until_saving())
        variables = Path(f"/proc/{worker}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in variables
        assert b"WATCHDOG" not in variables
    finally:
        manager.close()


def test_a_second_daemon_is_refused_and_the_first_goes_on(node: DaemonNode) -> None:
    node.start()
    second = node.command("run")
    assert second.returncode == 1
    assert "another daemon holds" in second.stderr
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"


def test_a_wrong_configuration_ends_it_with_every_problem(node: DaemonNode) -> None:
    node.set_config("[daemon]\nstop_timeout_s = 0\nunknown = 1\n")
    ended = node.command("run")
    assert ended.returncode == 2
    assert "daemon.stop_timeout_s" in ended.stderr
    assert "daemon.unknown: unknown key" in ended.stderr


def test_what_is_no_request_is_rejected_and_the_next_one_served(node: DaemonNode) -> None:
    node.start()
    (node.spool.folder / "incoming" / "garbage-1.json").write_bytes(b"\xff")
    (node.spool.folder / "incoming" / "folder-1.json").mkdir()
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"
    assert node.count("request.rejected") == 2
    assert len([name for name in node.spool.names("rejected") if name.endswith(".reason.json")]) == 2


def test_an_op_id_that_looks_like_an_option_is_one_all_the_same(node: DaemonNode) -> None:
    node.start()
    node.submit("--help-me-1111")
    assert node.until_ended("--help-me-1111").status == "succeeded"


def test_requests_that_came_while_no_daemon_was_there_are_served_by_the_next(node: DaemonNode) -> None:
    node.spool.create()
    node.submit(FIRST)
    node.start()
    assert node.until_ended(FIRST).status == "succeeded"


def test_a_log_that_can_not_be_rotated_does_not_end_the_daemon(node: DaemonNode) -> None:
    """Its name is so long that no number fits behind it."""
    node.log_name = "x" * 254
    node.set_config(f'[log]\nmax_size_bytes = 65536\npath = "{node.log_file}"\n')
    node.log_file.parent.mkdir(parents=True)
    node.log_file.write_text('{"event": "full"}\n' * 4000)
    node.start()
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"
    assert node.count("log.not_rotated") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a normal user: root may remove everything")
def test_results_that_can_not_be_removed_do_not_end_the_daemon(node: DaemonNode) -> None:
    rejected = node.spool.folder / "rejected"
    rejected.mkdir(parents=True)
    (rejected / "old").touch()
    (entry,) = files.entries_by_age(rejected)
    key = f"rejected/{'.'.join(str(part) for part in entry.version)}"
    node.spool.write_ledger(Ledger(process.boot_id(), 0.0, 1e9, {key: 0.0}))
    rejected.chmod(0o500)
    node.start()
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"
    assert node.count("spool.not_pruned") == 1
    rejected.chmod(0o700)


def test_a_log_that_can_not_be_written_does_not_keep_it_from_serving(node: DaemonNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node.set_config(f'[log]\npath = "{tmp_path}/file/agent.jsonl"\n')
    daemon = node.start(wait_for="")
    node.spool.create()
    node.submit(FIRST)
    assert node.until_ended(FIRST).status == "succeeded"
    assert '"event": "log.not_rotated"' in daemon.log.read_text()


def test_the_log_is_rotated_and_no_line_of_the_operation_is_lost(node: DaemonNode) -> None:
    node.set_config("[log]\nmax_size_bytes = 65536\n")
    node.log_file.parent.mkdir(parents=True)
    node.log_file.write_text('{"event": "full"}\n' * 4000)
    node.start(wait_for="")
    rotated = node.log_file.with_name("agent.jsonl.1")
    wait_until(rotated.exists, "the log is not rotated")
    node.submit(FIRST)
    node.until_ended(FIRST)
    text = rotated.read_text() + node.log_file.read_text()
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert {"daemon.started", "request.accepted", "operation.started", "operation.finished"} <= set(events)


def submit(node: DaemonNode, *arguments: str) -> tuple[int, dict[str, object]]:
    ended = node.command("submit", "snapshot", "--json", "--timeout", "30", *arguments)
    return ended.returncode, {"stderr": ended.stderr} | (json.loads(ended.stdout) if ended.stdout else {})


def test_the_same_operation_again_is_the_same_answer_and_other_content_is_bad_input(node: DaemonNode) -> None:
    node.start()
    first = submit(node, "--op-id", FIRST)
    assert first[0] == 0
    again = submit(node, "--op-id", FIRST)
    assert again[0] == 0
    assert again[1]["result"] == first[1]["result"]
    other = submit(node, "--op-id", FIRST, "--param", "emergency=true")
    assert other[0] == 2
    assert "known for other work" in str(other[1]["stderr"])
    assert one_backup(node)
    assert node.count("operation.started") == 1


def test_refused_and_failed_for_now_are_tried_anew_and_failed_for_good_is_not(node: DaemonNode) -> None:
    node.start()
    node.set_status(leader=0)
    assert submit(node, "--op-id", FIRST)[0] == 3
    node.set_status(dbSize=10**17)
    assert submit(node, "--op-id", FIRST)[0] == 1
    node.set_status()
    code, answer = submit(node, "--op-id", FIRST)
    assert code == 0
    assert isinstance(answer["result"], dict)
    assert answer["result"]["generation"] == 3
    (node.etcd / "snapshot.db").write_bytes(b"cut")
    assert submit(node, "--op-id", SECOND)[0] == 1
    started = node.count("operation.started")
    assert submit(node, "--op-id", SECOND)[0] == 1
    assert node.count("operation.started") == started
    assert one_backup(node)


def test_five_deliveries_at_once_are_one_snapshot_and_one_answer(node: DaemonNode) -> None:
    node.start()
    argv = node.argv("submit", "snapshot", "--json", "--op-id", FIRST, "--requested-at", "2026-01-31T12:00:00Z")
    running = [
        subprocess.Popen(argv, env=node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 5
    assert len({json.dumps(json.loads(answer)["result"]) for answer in answers}) == 1
    assert node.count("operation.started") == 1
    assert one_backup(node)
