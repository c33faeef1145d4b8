"""What the daemon costs when idle, and how fast a request gets in: `python -m tests.bench.request_path`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.spool import Spool
from agent.domain.request import Record, format_moment, make
from agent.trace import new_trace_id
from tests.sandbox import control_plane
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

REQUESTS = 200
SUBMITS = 30
IDLE_S = 60.0


def main() -> int:
    """Measures on a sandbox without S3 and prints one JSON object."""
    idle_s = float(sys.argv[1]) if len(sys.argv) > 1 else IDLE_S
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else REQUESTS
    with (
        tempfile.TemporaryDirectory(prefix="etcd-agent-bench-") as folder,
        control_plane.running(Path(folder) / "sandbox", with_s3=False) as plane,
    ):
        node = plane.nodes[0]
        figures = {"idle": idle(node, idle_s), "first_step": first_step(node, requests), "submit": submit(node)}
    print(json.dumps(figures, indent=2))
    return 0


def idle(node: AgentNode, seconds: float) -> dict[str, float]:
    """Resident memory and processor share of a daemon that nobody asks."""
    assert node.daemon is not None
    before = _cpu_s(node.daemon.pid)
    time.sleep(seconds)
    used = _cpu_s(node.daemon.pid) - before
    status = Path("/proc", str(node.daemon.pid), "status").read_text()
    rss_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])
    return {"rss_mb": round(rss_kb / 1024, 1), "cpu_percent": round(100 * used / seconds, 3), "seconds": seconds}


def first_step(node: AgentNode, requests: int) -> dict[str, float]:
    """From the request's appearance in `incoming/` to the log line of its first step, one request at a time."""
    spool = Spool(node.spool)
    delays_ms = []
    for number in range(requests):
        moment = format_moment(datetime.now(UTC))
        op_id = f"snapshot-bench-{number:06d}"
        request = make(op_id=op_id, operation="snapshot", trace_id=new_trace_id(), requested_at=moment)
        record = Record(request)
        put_at = time.time()
        spool.submit(record)
        wait_until(lambda op_id=op_id: _ended(spool, op_id), f"{op_id} does not end")  # type: ignore[misc]
        delays_ms.append(1000 * (_started_at(node, op_id) - put_at))
    return _summary(delays_ms)


def submit(node: AgentNode) -> dict[str, float]:
    """The wall time of `submit --no-wait`, as a whole process, with nothing else at work."""
    spool = Spool(node.spool)
    times_ms = []
    for number in range(SUBMITS):
        op_id = f"verify-bench-{number:06d}"
        arguments = ["submit", "verify", "--no-wait", "--param", "id=latest", "--op-id", op_id]
        started = time.perf_counter()
        completed = node.run(*arguments)
        times_ms.append(1000 * (time.perf_counter() - started))
        if completed.returncode != 0:
            raise subprocess.CalledProcessError(completed.returncode, arguments, completed.stdout, completed.stderr)
        wait_until(lambda op_id=op_id: _ended(spool, op_id), f"{op_id} does not end")  # type: ignore[misc]
    return _summary(times_ms)


def _ended(spool: Spool, op_id: str) -> bool:
    found = spool.find(op_id)
    return found is not None and found.state in ("done", "failed", "refused")


def _started_at(node: AgentNode, op_id: str) -> float:
    lines = (json.loads(line) for line in node.log_file.read_text().splitlines() if op_id in line)
    first = next(line for line in lines if line["event"] == "step.started")
    return datetime.fromisoformat(first["timestamp"]).timestamp()


def _cpu_s(pid: int) -> float:
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _summary(values_ms: list[float]) -> dict[str, float]:
    ordered = sorted(values_ms)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "count": len(ordered), "median_ms": round(statistics.median(ordered), 1), "p99_ms": round(p99, 1),
        "max_ms": round(ordered[-1], 1),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
