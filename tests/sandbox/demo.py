"""The main job, shown: a schedule event goes through the Lambda's zip, SSM and an agent, and ends as a verified backup.

`make demo`; the last line is `demo: ok trace=<id>`, or the reason why not with a non-zero exit.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.lambda_runtime import invoke, schedule_event
from tests.sandbox.nodes import AgentNode

DEADLINE_S = 90.0
HANDLER = "lambdas.backup.handler"


class DemoFailed(Exception):
    """The job did not end as it has to; the message says where."""


def main() -> int:
    """Runs the demo; whatever it started is gone when it returns, on Ctrl-C and TERM too."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--size-mb", type=int, default=40, help="how much Kubernetes-like data etcd gets")
    parser.add_argument("--zip", type=Path, default=Path("dist/lambdas.zip"), help="the built Lambda zip")
    parser.add_argument("--logs", type=Path, default=Path("build/demo"), help="where the log files are kept")
    wanted = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # INT too: who starts it in the background may have it ignored
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="etcd-agent-demo-") as folder:
            trace_id = run(Path(folder) / "sandbox", wanted.zip.resolve(), wanted.size_mb, wanted.logs)
    except KeyboardInterrupt:
        print("demo: interrupted; everything it started was stopped", file=sys.stderr)
        return 130
    except (DemoFailed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    print(f"demo: ok trace={trace_id}")
    return 0


def run(folder: Path, zip_path: Path, size_mb: int, logs: Path) -> str:
    """The whole story; returns the trace id."""
    _say("booting three etcd members with mutual TLS, an agent on each node, S3, stand-ins for SSM and Auto Scaling")
    with control_plane.running(folder) as plane:
        _fill(plane, size_mb)
        event = schedule_event(str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        _say(f"a schedule event {event['id']} reaches the Lambda ({HANDLER} of {zip_path.name})")
        answer = _invoke(plane, zip_path, event)
        node = plane.node(answer["instance_id"])
        _say(f"it asked {node.name} ({node.instance_id}) by SSM command {answer['command_id']} and returned")
        _await(node, answer["op_id"])
        _show(plane, node, answer["trace_id"], logs)
        return str(answer["trace_id"])


def _fill(plane: ControlPlane, size_mb: int) -> None:
    keys = kubernetes_data.fill(
        plane.etcd.members[0], size_mb,
        lambda written_bytes: _progress(f"  filling etcd: {written_bytes / 1e6:5.1f} of {size_mb} MB"),
    )  # fmt: skip
    _progress("")
    _say(f"etcd holds {keys:,} keys of 1 to 10 KiB below /registry/")


def _invoke(plane: ControlPlane, zip_path: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    invocation = invoke(zip_path, HANDLER, event, plane.aws.lambda_environment)
    plane.lambda_log.write_text("".join(f"{line}\n" for line in invocation.log_lines))
    if invocation.answer is None:
        raise DemoFailed(f"the Lambda raised:\n{invocation.output[-2000:]}")
    return invocation.answer


def _await(node: AgentNode, op_id: str) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_at:
        shown = node.run("ops", "show", op_id, "--json")
        state = json.loads(shown.stdout) if shown.returncode == 0 else {}
        if state.get("state") == "done":
            _progress("")
            return
        if state.get("state") in ("failed", "refused", "rejected"):
            raise DemoFailed(f"the operation {op_id} ended as {state['state']}: {shown.stdout}")
        step = (state.get("progress") or {}).get("step", "…")
        _progress(f"  {node.name}: {state.get('state', 'not there yet')}, step {step}")
        time.sleep(0.2)
    raise DemoFailed(f"{op_id} did not end within {DEADLINE_S:g} s; the last that {node.name} said: {shown.stdout}")


def _show(plane: ControlPlane, node: AgentNode, trace_id: str, logs: Path) -> None:
    _command(node, "snapshot", "list")
    _command(node, "snapshot", "verify", "latest")
    kept = _keep_logs(plane, logs)
    _command(node, "trace", trace_id, *kept)
    _say(f"the log files stay in {logs}: grep {trace_id} {logs}/*.jsonl")
    if plane.s3 is not None:
        _say(f"S3 here was {plane.s3.name} at {plane.s3.endpoint_url}")
        if not plane.s3.proves_integrity:
            _say("moto takes wrong checksums: integrity in the store is not proven by this run (`make tools` helps)")


def _keep_logs(plane: ControlPlane, folder: Path) -> list[str]:
    """Copies what the Lambda, SSM and the nodes logged out of the sandbox, which is removed; returns the paths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    logs = {"lambda": plane.lambda_log, "ssm": plane.aws.log, **{node.name: node.log_file for node in plane.nodes}}
    return [str(shutil.copyfile(log, folder / f"{name}.jsonl")) for name, log in logs.items()]


def _command(node: AgentNode, *words: str) -> None:
    print(f"\n{node.name}$ etcd-agent {' '.join(words)}", flush=True)
    environment = {"COLUMNS": "120", "FORCE_COLOR": "1"} if sys.stdout.isatty() else {"COLUMNS": "120"}
    completed = node.run(*words, environment=environment)
    print(completed.stdout, end="", flush=True)
    if completed.returncode != 0:
        raise DemoFailed(f"`etcd-agent {' '.join(words)}` ended with {completed.returncode}: {completed.stderr}")


def _say(text: str) -> None:
    print(f"* {text}", flush=True)


def _progress(text: str) -> None:
    """One line that is written over, on a terminal only."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
