"""What a cold start of the Lambda costs beside the SDK's own: `python -m tests.bench.lambda_cold`.

A fresh process imports the zip and runs the handler; another one only imports boto3 and makes the same two
clients. In turn, medians of both, and the time that the stand-ins took is subtracted from the first.
"""

import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from lambdas.build import build
from tests.sandbox.aws_stand_ins import StandIns, running_stand_ins
from tests.sandbox.lambda_runtime import invoke, schedule_event

RUNS = 15
HANDLER = "lambdas.backup.handler"
SDK_ALONE = """
import sys
sys.path.append(sys.argv[1])
import boto3
boto3.client("ssm"), boto3.client("autoscaling")
"""


def main() -> int:
    """Prints one JSON object; times are in milliseconds and of whole processes."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with tempfile.TemporaryDirectory(prefix="etcd-agent-bench-") as folder, running_stand_ins(Path(folder)) as aws:
        zip_path = Path(folder) / "lambdas.zip"
        build(zip_path)
        ours, theirs, calls = [], [], []
        for number in range(runs + 1):
            our_ms, call_count = handler_ms(zip_path, aws)
            their_ms = sdk_ms(aws)
            if number:  # the first pair only warms the page cache
                ours.append(our_ms)
                theirs.append(their_ms)
                calls.append(call_count)
    print(json.dumps({
        "runs": runs,
        "handler_ms": round(statistics.median(ours), 1),
        "sdk_alone_ms": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(our / their for our, their in zip(ours, theirs, strict=True)), 3),
        "api_calls": max(calls),
    }, indent=2))  # fmt: skip
    return 0


def handler_ms(zip_path: Path, aws: StandIns) -> tuple[float, int]:
    """Import and handler in a fresh process less what the stand-ins took, and how many calls it made."""
    before = len(aws.server.calls)
    event = schedule_event(str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    started = time.perf_counter()
    invocation = invoke(zip_path, HANDLER, event, aws.lambda_environment)
    took_ms = (time.perf_counter() - started) * 1000
    if invocation.answer is None:
        raise RuntimeError(f"the handler raised:\n{invocation.output}")
    made = aws.server.calls[before:]
    return took_ms - sum(call.duration_ms for call in made), len(made)


def sdk_ms(aws: StandIns) -> float:
    """`import boto3` and the same two clients in a fresh process."""
    argv = [sys.executable, "-I", "-S", "-c", SDK_ALONE, sysconfig.get_paths()["purelib"]]
    environment = {"PATH": "/usr/bin:/bin", **aws.lambda_environment}
    started = time.perf_counter()
    subprocess.run(argv, env=environment, check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
