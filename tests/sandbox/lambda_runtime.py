"""Runs a handler out of the built zip the way Lambda does: a fresh process that sees the zip and boto3, no more."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# -S keeps the project itself, which is installed editable, out of sys.path.
_RUN = """
import importlib, json, sys, types
zip_path, packages, handler = sys.argv[1:4]
sys.path[:] = [zip_path, *sys.path, packages]
module, _, name = handler.rpartition(".")
context = types.SimpleNamespace(
    aws_request_id="00000000-0000-4000-8000-000000000000", function_name="etcd-agent-backup",
    get_remaining_time_in_millis=lambda: 30000,
)
print(json.dumps(getattr(importlib.import_module(module), name)(json.load(sys.stdin), context)))
"""


@dataclass(frozen=True)
class Invocation:
    """How a handler ended: its answer, or None with what it printed when it raised; and its log lines."""

    answer: dict[str, Any] | None
    output: str

    @property
    def log_lines(self) -> list[str]:
        """The JSON lines it logged."""
        return [line for line in self.output.splitlines() if line.startswith("{")]


def invoke(zip_path: Path, handler: str, event: Mapping[str, Any], environment: Mapping[str, str]) -> Invocation:
    """One invocation, cold. `environment` is the function's own, with credentials and endpoints."""
    packages = sysconfig.get_paths()["purelib"]
    completed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, str(zip_path), packages, handler],
        input=json.dumps(event), capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "AWS_LAMBDA_FUNCTION_NAME": "etcd-agent-backup", **environment},
    )  # fmt: skip
    answer = json.loads(completed.stdout) if completed.returncode == 0 else None
    return Invocation(answer, completed.stderr)


def schedule_event(event_id: str, time: str) -> dict[str, Any]:
    """What an EventBridge rule with a schedule sends."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/etcd-agent-backup"],
        "detail": {},
    }
