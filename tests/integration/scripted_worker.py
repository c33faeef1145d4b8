"""A real worker process whose operation does what a test wrote down: `python -m … ROOT OP_ID`.

`ROOT/script/OP_ID` has one word for each attempt, the last one stays: succeed, fail, fail-for-now, refuse, crash
(killed), break (a defect), hang, deaf (hangs and hears no SIGTERM), orphan (killed, a child lives on), leave
(succeeds, a child lives on).
"""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agent import logs
from agent.adapters.spool import Spool
from agent.domain.request import Record
from agent.errors import EtcdUnavailable, Refused, SnapshotInvalid
from agent.operations.steps import Job, Steps
from agent.worker import Worker, exit_process

ROOT = Path(sys.argv[1])


def work(job: Job, steps: Steps) -> dict[str, Any]:
    words = (ROOT / "script" / job.request.op_id).read_text().split()
    word = words[min(job.attempt, len(words)) - 1]
    with (ROOT / "ran").open("a") as ran:
        ran.write(f"{job.request.op_id} {job.attempt} {word} {os.getpid()}\n")
    (job.folder / "snapshot.db").write_text("half")
    with steps.step("work"):
        act(word)
    return {"attempt": job.attempt}


def act(word: str) -> None:
    if word == "fail":
        raise SnapshotInvalid("damaged", hint="look")
    if word == "fail-for-now":
        raise EtcdUnavailable("away", hint="wait")
    if word == "refuse":
        raise Refused("unsafe", rule="no-leader", hint="repair it")
    if word == "break":
        raise RuntimeError("a defect")
    if word in ("orphan", "leave"):
        child = subprocess.Popen(["sleep", "60"])
        (ROOT / "orphan").write_text(str(child.pid))
    if word in ("crash", "orphan"):
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while word in ("hang", "deaf") and not (ROOT / "go-on").exists():
        time.sleep(0.02)


def make_job(record: Record) -> Job:
    return Job(record.request, record.attempt, ROOT / "work", "prod", "node-1", "", "1.0")


if __name__ == "__main__":
    logs.configure(service="etcd-agent", version="test", file=ROOT / "agent.jsonl", stream=io.StringIO())
    operations = {"snapshot": work, "verify": work}
    worker = Worker(Spool(ROOT / "spool"), ROOT / "locks", ROOT / "work", operations, make_job)
    exit_process(worker.run(sys.argv[2]))
