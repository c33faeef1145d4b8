"""The main job on a real three-member etcd with TLS: asked once or often, crashed or not, one verified backup."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.manifests import manifests_of
from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
TRACE_ID = "65b9e4c0aaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path_factory.mktemp("plane") / "sandbox") as made:
        kubernetes_data.fill(made.etcd.members[0], 20, lambda written_bytes: None)
        yield made


def submit(node: AgentNode, op_id: str, trace_id: str = TRACE_ID, *words: str) -> dict[str, Any]:
    completed = node.run("submit", "snapshot", "--op-id", op_id, "--json", *words, environment={"TRACE_ID": trace_id})
    assert completed.returncode == 0, completed.stderr
    answer: dict[str, Any] = json.loads(completed.stdout)
    return answer


def test_a_snapshot_is_verified_stored_and_traced(plane: ControlPlane) -> None:
    node = plane.nodes[0]
    answer = submit(node, "snapshot-000000000001")
    assert answer["trace_id"] == TRACE_ID
    (manifest,) = manifests_of(plane, "snapshot-000000000001")
    assert manifest["trace_id"] == TRACE_ID
    assert manifest["node"] == node.name
    outcomes = {check["level"]: check["outcome"] for check in manifest["checks"]}
    assert plane.s3 is not None
    stored = "passed" if plane.s3.proves_integrity else "unavailable"
    assert outcomes == {"trailer": "passed", "structure": "passed", "fresh": "passed", "stored": stored}
    key = f"etcd-agent/{manifest['data']['key']}"
    head = plane.s3.client().head_object(Bucket=plane.s3.bucket, Key=key)
    assert head["Metadata"]["trace-id"] == TRACE_ID
    assert head["ContentLength"] == manifest["data"]["size_bytes"]


def test_no_line_of_the_operation_lacks_the_trace(plane: ControlPlane) -> None:
    op_id, trace_id = "snapshot-000000000002", "65b9e4c0bbbbbbbbbbbbbbbbbbbbbbbb"
    node = plane.nodes[1]
    before = len(node.log_lines())
    submit(node, op_id, trace_id)
    lines = node.log_lines()[before:]
    assert {line.get("trace_id") for line in lines} == {trace_id}
    assert {line.get("op_id") for line in lines if line["event"] != "request.submitted"} == {op_id}
    steps = [line["step"] for line in lines if line["event"] == "step.finished"]
    assert steps == ["preflight", "save", "verify", "store", "manifest"]


def test_the_same_request_at_once_and_again_is_one_snapshot(plane: ControlPlane) -> None:
    op_id = "snapshot-000000000003"
    node = plane.nodes[2]
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(submit(node, op_id))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.append(submit(node, op_id))
    assert len(answers) == 6
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert len(manifests_of(plane, op_id)) == 1


@pytest.mark.parametrize("victim", ["worker", "daemon"])
def test_a_kill_in_the_middle_ends_in_one_manifest(plane: ControlPlane, victim: str) -> None:
    op_id = f"snapshot-kill-{victim}"
    node = plane.nodes[0]
    environment = {**node.environment, "TRACE_ID": TRACE_ID}
    waiter = subprocess.Popen(
        node.command("submit", "snapshot", "--op-id", op_id, "--json"), env=environment, stdout=subprocess.PIPE
    )
    with waiter:
        wait_until(lambda: worker_of(op_id) is not None, "no worker started")
        if victim == "worker":
            os.kill(worker_of(op_id) or 0, signal.SIGKILL)
        else:
            assert node.daemon is not None
            node.daemon.kill()
            plane.restart_daemon(node)
        output, _ = waiter.communicate(timeout=120)
    assert waiter.returncode == 0
    assert json.loads(output)["state"] == "done"
    assert len(manifests_of(plane, op_id)) == 1
    work = node.root / "var/lib/etcd-agent/work"
    assert not list(work.glob("**/*.part")) + list(work.glob("**/*.db"))


def worker_of(op_id: str) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"worker" in words and op_id.encode() in words:
                return int(entry.name)
    return None
