"""Children: bounded in time, with a scrubbed environment that carries the trace, and killed whole or not at all."""

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import trace
from agent.adapters import process
from agent.errors import CommandMissing, CommandTimeout, Interrupted
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
OP_ID = "snapshot-0123456789abcdef"
TRACE_ID = "0123456789abcdef0123456789abcdef"


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text().strip().isdigit(), f"{path} has no pid")
    return int(path.read_text())


@pytest.fixture
def workers() -> Iterator[list[process.Worker]]:
    """Whatever a test starts is gone when it ends."""
    started: list[process.Worker] = []
    yield started
    for worker in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.child.wait()


def test_a_child_ends_with_what_it_printed() -> None:
    completed = process.run(sh("cat; echo told >&2; exit 3"), timeout_s=10, stdin="asked")
    assert (completed.returncode, completed.stdout, completed.stderr) == (3, "asked", "told\n")
    assert completed.command == "/bin/sh -c 'cat; echo told >&2; exit 3'"


def test_output_larger_than_a_pipe_and_no_utf8_comes_whole() -> None:
    completed = process.run(sh(r"head -c 300000 /dev/zero | tr '\0' x; printf '\377'"), timeout_s=10)
    assert len(completed.stdout) == 300_001
    assert completed.stdout.endswith("x\N{REPLACEMENT CHARACTER}")


def test_a_child_out_of_time_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"did not end within 0\.3 s"):
        process.run(sh(f"echo $$ > {tmp_path}/pid; exec sleep 60"), timeout_s=0.3)
    assert time.monotonic() - began < 5
    assert not is_alive(pid_in(tmp_path / "pid"))


def test_a_child_that_ignores_sigterm_is_killed_all_the_same() -> None:
    with pytest.raises(CommandTimeout):
        process.run(sh("trap '' TERM INT HUP; while :; do sleep 0.05; done"), timeout_s=0.2)


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_us_up_for_ever(tmp_path: Path) -> None:
    with pytest.raises(CommandTimeout):
        process.run(sh(f"sleep 60 & echo $! > {tmp_path}/pid"), timeout_s=0.5)
    os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)


def test_onlookers_are_told_while_it_runs() -> None:
    ticks: list[float] = []
    process.run(["sleep", "0.7"], timeout_s=10, on_tick=lambda: ticks.append(time.monotonic()))
    assert 1 <= len(ticks) <= 4


def test_time_is_over_with_onlookers_too() -> None:
    with pytest.raises(CommandTimeout):
        process.run(["sleep", "60"], timeout_s=0.5, on_tick=lambda: None)


def test_a_child_is_gone_when_its_onlooker_stops_us(tmp_path: Path) -> None:
    def stop() -> None:
        if (tmp_path / "pid").exists():
            raise Interrupted("stopping")

    with pytest.raises(Interrupted):
        process.run(sh(f"echo $$ > {tmp_path}/pid; exec sleep 60"), timeout_s=30, on_tick=stop)
    assert not is_alive(pid_in(tmp_path / "pid"))


def test_the_environment_is_a_closed_list_and_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "ETCD_AGENT_ROOT"):
        monkeypatch.setenv(name, "must not be handed on")
    monkeypatch.setenv("TRACE_ID", "f" * 32)
    monkeypatch.setenv("LANG", "C.UTF-8")
    with trace.bound(trace_id=TRACE_ID, op_id=OP_ID), trace.span() as span_id:
        printed = process.run(["/usr/bin/env"], timeout_s=10).stdout
    variables = dict(line.split("=", 1) for line in printed.splitlines())
    assert variables.pop("TRACE_ID") == TRACE_ID
    assert variables.pop("TRACEPARENT") == f"00-{TRACE_ID}-{span_id}-01"
    assert variables.pop("ETCD_AGENT_OP_ID") == OP_ID
    assert variables.keys() <= set(process.INHERITED_VARIABLES)
    assert variables["LANG"] == "C.UTF-8"


def test_what_one_call_wants_is_added_to_the_environment() -> None:
    assert "GOGC=400\n" in process.run(["/usr/bin/env"], timeout_s=10, variables={"GOGC": "400"}).stdout
    assert "GOGC" not in process.run(["/usr/bin/env"], timeout_s=10).stdout


def test_a_child_without_a_trace_gets_none_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACE_ID", TRACE_ID)
    assert "TRACE" not in process.run(["/usr/bin/env"], timeout_s=10).stdout


def test_a_program_that_is_none_is_told_as_missing(tmp_path: Path) -> None:
    other_machine = tmp_path / "etcdctl"
    other_machine.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(CommandMissing, match=r"Permission denied"):
        process.run([str(other_machine)], timeout_s=5)
    other_machine.chmod(0o755)
    for argv, why in (
        ([str(other_machine)], "Exec format error"),
        ([str(tmp_path / "none")], "No such file"),
        ([str(other_machine / "below")], "Not a directory"),
    ):
        with pytest.raises(CommandMissing, match=why) as caught:
            process.run(argv, timeout_s=5)
        assert "etcd.tools_dir" in caught.value.hint


def test_a_program_is_looked_for_in_the_given_folder_alone(tmp_path: Path) -> None:
    assert process.find("sh").endswith("/sh")
    with pytest.raises(CommandMissing, match=f"sh is not in {tmp_path}"):
        process.find("sh", str(tmp_path))
    (tmp_path / "sh").write_text("#!/bin/sh\n")
    with pytest.raises(CommandMissing):
        process.find("sh", str(tmp_path))
    (tmp_path / "sh").chmod(0o755)
    assert process.find("sh", str(tmp_path)) == str(tmp_path / "sh")


def worker_with_family(folder: Path, workers: list[process.Worker]) -> tuple[process.Worker, int, int]:
    """A worker, its child, and a grandchild whose parent has ended."""
    script = (
        f"sleep 60 & echo $! > {folder}/child; "
        f"(trap '' TERM; sleep 61 & echo $! > {folder}/grandchild) ; echo $$ > {folder}/worker; wait"
    )
    worker = process.spawn_worker(sh(script), OP_ID, {"PATH": os.environ["PATH"]})
    workers.append(worker)
    assert pid_in(folder / "worker") == worker.pid
    return worker, pid_in(folder / "child"), pid_in(folder / "grandchild")


def test_a_worker_leads_a_session_of_its_own(tmp_path: Path, workers: list[process.Worker]) -> None:
    worker, child, grandchild = worker_with_family(tmp_path, workers)
    assert os.getsid(worker.pid) == os.getpgid(worker.pid) == os.getpgid(grandchild) == worker.pid
    assert sorted(process.group_processes(worker.pid, OP_ID)) == sorted([worker.pid, child, grandchild])
    assert worker.poll() is None


def test_a_group_is_killed_with_those_that_lost_their_parent(tmp_path: Path, workers: list[process.Worker]) -> None:
    worker, *family = worker_with_family(tmp_path, workers)
    os.kill(worker.pid, signal.SIGKILL)
    worker.child.wait()
    assert all(map(is_alive, family))
    process.kill_group(worker.pid, OP_ID)
    assert not any(map(is_alive, family))


def test_terminating_asks_the_worker_alone(tmp_path: Path, workers: list[process.Worker]) -> None:
    worker, child, grandchild = worker_with_family(tmp_path, workers)
    worker.terminate()
    wait_until(lambda: worker.poll() is not None, "the worker does not end")
    assert worker.poll() == -signal.SIGTERM
    assert is_alive(child)
    assert is_alive(grandchild)


@pytest.mark.parametrize("op_id", ["snapshot-another", OP_ID[:-1], f"{OP_ID}0", ""])
def test_a_group_number_that_was_used_again_is_never_killed(
    tmp_path: Path, workers: list[process.Worker], op_id: str
) -> None:
    worker, *family = worker_with_family(tmp_path, workers)
    process.kill_group(worker.pid, op_id)
    assert all(map(is_alive, [worker.pid, *family]))


def test_an_attempt_of_another_boot_or_of_nobody_is_never_killed(tmp_path: Path, workers: list[process.Worker]) -> None:
    worker, *family = worker_with_family(tmp_path, workers)
    boot = process.boot_id()
    other_boot = "00000000-0000-0000-0000-000000000000"
    for identity in (
        f"{worker.pid} {other_boot}", f"{worker.pid}", f"{worker.pid}\n{boot}", f"{worker.pid + 1} {boot}",
        "", "x y", f"-1 {boot}", f"0 {boot}", f"\u00b2 {boot}", f"{'9' * 5000} {boot}",
    ):  # fmt: skip
        process.end_attempt(identity, OP_ID)
    assert all(map(is_alive, [worker.pid, *family]))
    process.end_attempt(f"{worker.pid} {boot}", OP_ID)
    assert not any(map(is_alive, [worker.pid, *family]))


def test_an_attempt_is_known_by_its_group_and_boot(workers: list[process.Worker], tmp_path: Path) -> None:
    program = "from agent.adapters import process; print(process.attempt_identity())"
    worker = process.spawn_worker(
        sh(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} > {tmp_path}/identity"), OP_ID, dict(os.environ)
    )
    workers.append(worker)
    wait_until(lambda: worker.poll() is not None, "the worker does not end")
    assert (tmp_path / "identity").read_text() == f"{worker.pid} {process.boot_id()}\n"


def test_killing_nobody_is_no_error() -> None:
    process.kill_group(2**22 + 1, OP_ID)


def test_a_zombie_does_not_count(workers: list[process.Worker]) -> None:
    worker = process.spawn_worker(sh("exit 0"), OP_ID, {})
    workers.append(worker)
    wait_until(lambda: not is_alive(worker.pid), "it does not end")
    assert process.group_processes(worker.pid, OP_ID) == []


def test_the_boot_clock_goes_on() -> None:
    first = process.boot_clock_s()
    assert 0 < first <= process.boot_clock_s()


def test_one_that_was_killed_and_is_not_gone_yet_is_waited_for(
    tmp_path: Path, workers: list[process.Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes a dying process's variables before its files."""
    worker, *family = worker_with_family(tmp_path, workers)
    kill, asked = os.kill, list[int]()

    def kill_later(pid: int, number: int) -> None:
        asked.append(pid)
        threading.Timer(0.2, lambda: Path(f"/proc/{pid}").exists() and kill(pid, number)).start()

    carries = process._carries
    monkeypatch.setattr(process, "_carries", lambda pid, op_id: not asked and carries(pid, op_id))
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill_later)
        process.kill_group(worker.pid, OP_ID)
    assert not any(map(is_alive, [worker.pid, *family]))
