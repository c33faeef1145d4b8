"""A limit on the upload, by a real daemon and a real S3 server: it takes the time it must, and a terminal shows it."""

import hashlib
import json
import os
import pty
import random
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.daemon_node import DaemonNode, node_in
from tests.integration.stores import running_servers
from tests.sandbox.s3_server import S3Server

pytestmark = pytest.mark.integration
LIMIT_BYTES_PER_S = 2 * 1024 * 1024
BODY = b"key and" + random.Random(1).randbytes(6 * 1024 * 1024 - 7)
CONTENT = BODY + hashlib.sha256(BODY).digest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_servers(tmp_path_factory.mktemp("servers")) as found:
        yield found.get("versitygw", found["moto"])


@pytest.fixture
def node(tmp_path: Path, server: S3Server) -> Iterator[DaemonNode]:
    """A node whose database is 6 MiB that no compressor makes smaller."""
    with node_in(tmp_path) as made:
        (made.etcd / "snapshot.db").write_bytes(CONTENT)
        made.set_status(dbSize=len(CONTENT))
        yield made


def configure(node: DaemonNode, server: S3Server, limit: int, timeout_s: int = 600) -> None:
    node.set_config(
        f'[store]\nkind = "s3"\nbucket = "{server.bucket}"\nprefix = "{node.root.parent.name}"\nregion = "us-east-1"\n'
        f'endpoint_url = "{server.endpoint_url}"\nupload_limit_bytes_per_s = {limit}\n'
        f"[snapshot]\ntimeout_s = {timeout_s}\n"
    )


def on_a_terminal(node: DaemonNode, *arguments: str) -> str:
    """What the command shows on a terminal of its own, its control characters left out."""
    own, others = pty.openpty()
    environment = node.environment | {"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"}
    with subprocess.Popen(
        node.argv(*arguments), env=environment, stdin=subprocess.DEVNULL, stdout=others, stderr=others
    ) as command:
        os.close(others)
        shown = bytearray()
        try:
            while more := os.read(own, 65536):
                shown += more
        except OSError:  # as a terminal ends whose last user is gone
            pass
        os.close(own)
    assert command.returncode == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))


def test_it_takes_the_time_it_must_and_the_terminal_shows_how_far_it_is(node: DaemonNode, server: S3Server) -> None:
    configure(node, server, LIMIT_BYTES_PER_S)
    node.start(**server.environment)
    shown = on_a_terminal(node, "snapshot", "create")
    (saved,) = [line for line in node.lines() if line["event"] == "step.started" and line.get("step") == "save"]
    (uploaded,) = [line for line in node.lines() if line["event"] == "snapshot.uploaded"]
    took = datetime.fromisoformat(uploaded["timestamp"]) - datetime.fromisoformat(saved["timestamp"])
    assert uploaded["size_bytes"] >= len(BODY)
    assert took.total_seconds() >= uploaded["size_bytes"] / LIMIT_BYTES_PER_S
    seen = re.findall(r"step (\w+), (\d+\.\d) MiB, (\d+) %, (\d+\.\d) MiB/s, compressed (\d+):1, (\d+) s left", shown)
    assert seen, shown
    assert {ratio for *_, ratio, _ in seen} == {"1"}
    assert max(float(rate) for _, _, _, rate, *_ in seen) <= 2.5 * LIMIT_BYTES_PER_S / 1024**2
    percents = [int(percent) for _, _, percent, *_ in seen]
    assert percents == sorted(percents)


def test_a_limit_that_can_not_work_is_a_failure_that_says_so_and_loses_nothing(
    node: DaemonNode, server: S3Server
) -> None:
    configure(node, server, 1024)
    node.start(**server.environment)
    answer = node.command("snapshot", "create", "--json")
    assert answer.returncode == 2
    error = json.loads(answer.stdout)["result"]["error"]
    assert (error["code"], error["retryable"]) == ("upload_limit_too_low", False)
    assert "store.upload_limit_bytes_per_s" in error["hint"]
    (kept,) = (node.root / "var/lib/etcd-agent/outbox").glob("*.db.zst")
    assert str(kept) in error["message"]
    assert node.count("upload.limit_too_low") == 1
    assert node.count("snapshot.uploaded") == 0
