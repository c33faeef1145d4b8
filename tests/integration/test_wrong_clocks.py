"""The wall clock of a node jumps by a day or a year: nothing is lost or done twice, and no deadline comes nearer."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_node import DaemonNode, node_in
from tests.sandbox import s3_server
from tests.sandbox.processes import Processes
from tests.setup import debian

pytestmark = pytest.mark.integration
DAY_S = 86400
JUMPS = [DAY_S, -DAY_S, 365 * DAY_S, -365 * DAY_S]
OP_ID = "snapshot-12345678"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        yield made


def clock_of(node: DaemonNode) -> Path:
    return node.root.parent / "clock"


def start(node: DaemonNode, **environment: str) -> None:
    folder = str(Path(__file__).with_name("set_clock"))
    node.start(PYTHONPATH=folder, CLOCK_OFFSET_FILE=str(clock_of(node)), **environment)


def jump(node: DaemonNode, seconds: float) -> None:
    beside = clock_of(node).with_suffix(".new")
    beside.write_text(str(seconds))
    beside.rename(clock_of(node))


def one_backup(node: DaemonNode) -> dict[str, Any]:
    (path,) = node.stored("manifest")
    assert len(node.stored("data")) == 1
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_jump_in_the_middle_of_an_operation_changes_nothing_but_its_times(node: DaemonNode, seconds: int) -> None:
    start(node)
    node.hold()
    node.submit(OP_ID)
    node.until_saving()
    jump(node, seconds)
    node.go_on()
    result = node.until_ended(OP_ID)
    assert (result.status, result.attempt) == ("succeeded", 1), result
    assert one_backup(node)["requested_at"] == "2026-01-31T12:00:00Z"
    assert (result.finished_at > result.started_at) is (seconds > 0)
    assert all(0 <= step.duration_ms < DAY_S for step in result.steps)
    node.submit("snapshot-87654321", requested_at="2026-01-31T13:00:00Z")
    assert node.until_ended("snapshot-87654321").status == "succeeded"
    assert node.nothing_half_is_left()


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_jump_between_a_request_and_its_run_loses_and_doubles_nothing(node: DaemonNode, seconds: int) -> None:
    node.spool.create()
    node.submit(OP_ID)
    jump(node, seconds)
    start(node)
    result = node.until_ended(OP_ID)
    assert (result.status, result.attempt) == ("succeeded", 1), result
    assert one_backup(node)["requested_at"] == "2026-01-31T12:00:00Z"
    assert node.nothing_half_is_left()


def test_a_bucket_that_finds_our_clock_wrong_is_told_and_takes_the_snapshot_once_it_is_right(
    node: DaemonNode, tmp_path: Path
) -> None:
    if not (debian.cache() / "tools/versitygw").exists():
        pytest.skip("moto looks at no clock, and versitygw is not in the cache: `make tools`, where there is a Go")
    with Processes(tmp_path / "s3-logs") as processes:
        server = s3_server.start(processes, tmp_path)
        node.set_config(
            f'[store]\nkind = "s3"\nbucket = "{server.bucket}"\nprefix = "run-{secrets.token_hex(4)}"\n'
            f'region = "us-east-1"\nendpoint_url = "{server.endpoint_url}"\n'
        )
        jump(node, -DAY_S)
        start(node, **server.environment)
        node.submit(OP_ID)
        result = node.until_ended(OP_ID)
        assert (result.status, result.output["stored"]) == ("succeeded", False), result
        trouble = result.output["why_not_stored"]
        assert (trouble["code"], trouble["retryable"], "timedatectl" in trouble["hint"]) == (
            "aws_credentials", True, True,
        ), trouble  # fmt: skip
        jump(node, 0)
        ended = node.command("submit", "outbox", "--json")
        assert ended.returncode == 0, ended.stdout
        assert json.loads(ended.stdout)["result"]["output"]["shipped"] == [result.output["snapshot_id"]]
