"""The whole way of a schedule event: the built Lambda, SSM's script, the agent; one trace id in all of it."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lambdas.build import build
from tests.e2e.manifests import manifests_of
from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane
from tests.sandbox.lambda_runtime import Invocation, invoke, schedule_event
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
HANDLER = "lambdas.backup.handler"
TOOL_THAT_TELLS = (
    '#!/bin/sh\necho "$(basename "$0") ${{TRACE_ID:-none}} ${{TRACEPARENT:-none}}" >> {record}\nexec {tool} "$@"\n'
)


@dataclass(frozen=True)
class World:
    """The control plane, the zip, and what its tools recorded of their environment."""

    plane: ControlPlane
    zip_path: Path
    children: Path

    def deliver(self, event: dict[str, Any]) -> Invocation:
        """One delivery to a cold Lambda."""
        return invoke(self.zip_path, HANDLER, event, self.plane.aws.lambda_environment)

    def ended(self, answer: dict[str, Any]) -> bool:
        """Whether SSM says that the command of this delivery ended."""
        return self.invocation(answer)["Status"] in ("Success", "Failed", "TimedOut")

    def invocation(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What SSM knows of the command of this delivery."""
        arguments = {"CommandId": answer["command_id"], "Details": True}
        rows = self.plane.aws.ssm.call("ListCommandInvocations", arguments)["CommandInvocations"]
        return dict(rows[0]) if rows else {"Status": "Pending"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    build(folder / "lambdas.zip")
    children = folder / "children.txt"

    def tell(tools: Path) -> Path:
        told = folder / "tools"
        told.mkdir()
        for name in ("etcdctl", "etcdutl"):
            (told / name).write_text(TOOL_THAT_TELLS.format(record=children, tool=tools / name))
            (told / name).chmod(0o755)
        return told

    with control_plane.running(folder / "sandbox", agent_tools=tell) as plane:
        kubernetes_data.fill(plane.etcd.members[0], 5, lambda written_bytes: None)
        yield World(plane, folder / "lambdas.zip", children)


def new_event() -> dict[str, Any]:
    return schedule_event(str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def delivered(world: World, event: dict[str, Any]) -> tuple[Invocation, dict[str, Any]]:
    """Delivers and waits for the command's end."""
    invocation = world.deliver(event)
    assert invocation.answer is not None, invocation.output
    answer = invocation.answer
    wait_until(lambda: world.ended(answer), "the command does not end", timeout_s=60)
    return invocation, answer


def test_one_trace_id_is_in_everything_that_an_event_touches(world: World) -> None:
    event = new_event()
    invocation, answer = delivered(world, event)
    trace_id = answer["trace_id"]
    assert trace_id[:8] == f"{int(datetime.fromisoformat(event['time']).timestamp()):08x}"

    lambda_lines = [json.loads(line) for line in invocation.log_lines]
    assert lambda_lines
    assert {line["trace_id"] for line in lambda_lines} == {trace_id}

    node = world.plane.node(answer["instance_id"])
    of_the_operation = [line for line in node.log_lines() if line.get("op_id") == answer["op_id"]]
    assert {line["trace_id"] for line in of_the_operation} == {trace_id}
    assert {line["ssm_command_id"] for line in of_the_operation} == {answer["command_id"]}

    sent = next(call for call in reversed(world.plane.aws.server.calls) if call.operation == "SendCommand")
    assert sent.arguments["Comment"] == f"etcd-agent snapshot trace={trace_id}"
    assert f"trace/{trace_id}" in sent.user_agent

    (manifest,) = manifests_of(world.plane, answer["op_id"])
    assert manifest["trace_id"] == trace_id
    assert world.plane.s3 is not None
    head = world.plane.s3.client().head_object(
        Bucket=world.plane.s3.bucket, Key=f"etcd-agent/{manifest['data']['key']}"
    )
    assert head["Metadata"]["trace-id"] == trace_id

    children = [line.split() for line in world.children.read_text().splitlines()]
    assert {name for name, *_ in children} == {"etcdctl", "etcdutl"}
    assert {child_trace for _, child_trace, _ in children} == {trace_id}
    assert all(parent.startswith(f"00-{trace_id}-") for _, _, parent in children)


def test_the_nodes_root_span_hangs_under_the_lambdas(world: World) -> None:
    invocation, answer = delivered(world, new_event())
    lambda_spans = {json.loads(line)["span_id"] for line in invocation.log_lines}
    node = world.plane.node(answer["instance_id"])
    submitted = next(
        line
        for line in node.log_lines()
        if line["event"] == "request.submitted" and line["trace_id"] == answer["trace_id"]
    )
    assert submitted["parent_span_id"] in lambda_spans


def test_five_deliveries_at_once_and_one_more_are_one_snapshot_and_one_answer(world: World) -> None:
    event = new_event()
    with ThreadPoolExecutor(5) as pool:
        answers = [answer for _, answer in pool.map(lambda _: delivered(world, event), range(5))]
    answers.append(delivered(world, event)[1])
    assert len({answer["instance_id"] for answer in answers}) == 1
    assert len({answer["command_id"] for answer in answers}) == 6
    assert len(manifests_of(world.plane, answers[0]["op_id"])) == 1
    outputs = {world.invocation(answer)["CommandPlugins"][0]["Output"] for answer in answers}
    assert len(outputs) == 1, outputs
    assert json.loads(outputs.pop())["state"] == "done"


def test_trace_shows_lambda_ssm_and_node(world: World) -> None:
    invocation, answer = delivered(world, new_event())
    world.plane.lambda_log.write_text("".join(f"{line}\n" for line in invocation.log_lines))
    node = world.plane.node(answer["instance_id"])
    logs = [str(world.plane.lambda_log), str(world.plane.aws.log), str(node.log_file)]
    shown = node.run("trace", answer["trace_id"], *logs)
    assert shown.returncode == 0, shown.stderr
    for word in ("lambda", "ssm", "preflight", "save", "verify", "store", "manifest"):
        assert word in shown.stdout
