"""A real worker process whose operation does what a test wrote down: `python -m … ROOT [--caretaker] OP_ID`.

`ROOT/script/OP_ID` has one word for each attempt, the last one stays: succeed, fail, fail-for-now, refuse, crash
(killed), break (a defect), hang, deaf (hangs and hears no SIGTERM), orphan (killed, a child lives on), leave
(succeeds, a child lives on), park, park-dead (more urgent), commit (can not be cancelled any more, then hangs),
commit-crash (the same, then killed). What hangs goes on when `ROOT/go-on` or `ROOT/go-on.OP_ID` is there.

`ROOT/recheck/OP_ID` has the word for a parked one: go, refuse, fail, away, break, hang, crash; without it, it waits on.
"""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agent import caretaker, logs
from agent.adapters import process
from agent.adapters.spool import Spool
from agent.domain.request import Record
from agent.errors import EtcdUnavailable, Parked, Refused, SnapshotInvalid
from agent.operations import leftovers
from agent.operations.steps import Job, Operation, Steps
from agent.worker import Worker, exit_process
from tests.integration import scripted_operations

ROOT = Path(sys.argv[1])


def work(job: Job, steps: Steps) -> dict[str, Any]:
    words = (ROOT / "script" / job.request.op_id).read_text().split()
    starts = sum(line.startswith(f"{job.request.op_id} ") for line in written("ran"))
    word = words[min(job.attempt if "park" not in words[0] else starts + 1, len(words)) - 1]
    write("ran", f"{job.request.op_id} {job.attempt} {word} {os.getpid()}")
    (job.folder / "snapshot.db").write_text("half")
    try:
        leftovers.remove_files(job.work_root, job.folder, job.hold)
        with steps.step("work", no_return=word.startswith("commit")):
            act(word, job.request.op_id)
    finally:
        write("left", f"{job.request.op_id} {job.attempt} {word} {os.getpid()}")
    return {"attempt": job.attempt}


def recheck(job: Job, steps: Steps) -> None:
    path = ROOT / "recheck" / job.request.op_id
    word = path.read_text().strip() if path.exists() else "park"
    write("rechecked", f"{job.request.op_id} 0 {word} {os.getpid()}")
    if word == "away":
        act("fail-for-now", job.request.op_id)
    if word != "go":
        act(word, job.request.op_id)


def say_farewell(job: Job, steps: Steps) -> None:
    write("farewells", f"{job.request.op_id} {job.attempt} farewell {os.getpid()}")
    if (ROOT / "farewell-hangs").exists():
        time.sleep(60)


def write(name: str, line: str) -> None:
    with (ROOT / name).open("a") as lines:
        lines.write(f"{line}\n")


def written(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines() if (ROOT / name).exists() else []


def act(word: str, op_id: str) -> None:
    if word == "fail":
        raise SnapshotInvalid("damaged", hint="look")
    if word == "fail-for-now":
        raise EtcdUnavailable("away", hint="wait")
    if word == "refuse":
        raise Refused("unsafe", rule="no-leader", hint="repair it")
    if word in ("park", "park-dead"):
        raise Parked("one is away", rule="G1", hint="repair it", priority=0 if word == "park-dead" else 1)
    if word == "break":
        raise RuntimeError("a defect")
    if word in ("orphan", "leave"):
        child = subprocess.Popen(["sleep", "60"])
        (ROOT / "orphan").write_text(str(child.pid))
    if word in ("crash", "orphan", "commit-crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while word in ("hang", "deaf", "commit") and not goes_on(op_id):
        time.sleep(0.02)


def goes_on(op_id: str) -> bool:
    return (ROOT / "go-on").exists() or (ROOT / f"go-on.{op_id}").exists()


def make_job(record: Record) -> Job:
    deadline_s = record.acceptance.deadline_boot_s if record.acceptance else process.boot_clock_s() + 60
    return Job(
        record.request, record.attempt, ROOT / "work", "prod", "node-1", "", "1.0",
        time_left_s=lambda: deadline_s - process.boot_clock_s(),
    )  # fmt: skip


if __name__ == "__main__":
    scripted_operations.register()
    logs.configure(service="etcd-agent", version="test", file=ROOT / "agent.jsonl", stream=io.StringIO())
    interval_s = float(os.environ.get("PARKED_INTERVAL_S", "30"))
    operations = dict.fromkeys(("snapshot", "verify", "retire"), Operation(work, recheck, say_farewell))
    operations["restore"] = Operation(work)
    op_id = sys.argv[-1]
    worker = Worker(
        Spool(ROOT / "spool"), ROOT / "locks", ROOT / "work", operations, make_job, interval_s,
        step_back=lambda: write("stepped-back", op_id),
    )  # fmt: skip
    exit_process(caretaker.run(worker, op_id) if "--caretaker" in sys.argv else worker.run(op_id))
