"""The demo ends with its line, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lambdas.build import build
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
PROJECT = Path(__file__).resolve().parents[2]


def start_demo(folder: Path, output: Path) -> "subprocess.Popen[bytes]":
    build(folder / "lambdas.zip")
    temporary = folder / "temporary"
    temporary.mkdir()
    with output.open("wb") as stream:
        return subprocess.Popen(
            [
                sys.executable, "-m", "tests.sandbox.demo", "--size-mb", "1", "--zip", str(folder / "lambdas.zip"),
                "--logs", str(folder / "logs"),
            ],
            cwd=PROJECT, env={**os.environ, "TMPDIR": str(temporary)}, stdout=stream, stderr=stream,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def left_behind(folder: Path) -> list[str]:
    """Files of the demo, and processes that name its folder."""
    left = [str(path) for path in (folder / "temporary").iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{folder}/temporary" in words:
                left.append(words.replace("\0", " "))
    return left


def test_the_demo_ends_with_its_trace_and_cleans_up(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with start_demo(tmp_path, output) as demo:
        assert demo.wait(120) == 0, output.read_text()
    lines = output.read_text().splitlines()
    match = re.fullmatch(r"demo: ok trace=([0-9a-f]{32})", lines[-1])
    assert match
    assert any(line.startswith(f"trace {match[1]}") for line in lines)
    assert left_behind(tmp_path) == []
    traced = [path.name for path in (tmp_path / "logs").iterdir() if match[1] in path.read_text()]
    assert {"lambda.jsonl", "ssm.jsonl"} < set(traced)
    assert len(traced) == 3  # and that of the one node that was asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["booting three etcd members", "reaches the Lambda"])
def test_a_stopped_demo_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    output = tmp_path / "output"
    with start_demo(tmp_path, output) as demo:
        wait_until(lambda: moment in output.read_text(), f"the demo does not come to {moment!r}", timeout_s=60)
        demo.send_signal(number)
        assert demo.wait(60) == 130, output.read_text()
    assert left_behind(tmp_path) == []
