"""The agent's side: where it finds etcdctl, what it does not run, and what it says when root does not answer."""

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from agent import trace
from agent.adapters import files
from agent.adapters.etcd_tools import EtcdTools
from agent.adapters.root_service import RootServiceDoor
from agent.domain.etcd_tools import Pin, PinnedTool
from agent.domain.request import ErrorResult
from agent.domain.root_request import COPY_TOOLS, RootResult
from agent.errors import (
    AgentError,
    CommandMissing,
    EtcdAnswerInvalid,
    EtcdProcessUnclear,
    EtcdToolsMissing,
    RootServiceFailed,
    RootServiceMissing,
    ToolsAltered,
)
from tests.integration.root_node import RootNode
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
TRACE_ID = "65b9e4c0eeeeeeeeeeeeeeeeeeeeeeee"


def script(path: Path, printed: str, exit_code: int = 0) -> Path:
    """A program that prints, and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{printed}'\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def pin(copies: Path, version: str, names: tuple[str, ...] = ("etcdctl", "etcdutl")) -> Pin:
    """A copy as root makes it."""
    folder = f"copy-of-{version.replace('.', '-')}"
    made = [script(copies / folder / name, f"{name} version: {version}") for name in names]
    pinned = [
        PinnedTool(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), 1, f"/bin/{path.name}")  # type: ignore[arg-type]
        for path in made
    ]
    written = Pin(folder, tuple(pinned), 7, "/bin/etcd", "2026-01-31T12:00:00Z", TRACE_ID)
    (copies / "pinned.json").write_bytes(msgspec.json.encode(written))
    return written


def nobody() -> None:
    raise RootServiceMissing("it is not installed", hint="install it")


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies, on a machine whose PATH has no etcdctl."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "path"))
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def test_the_configured_folder_goes_before_path_and_path_before_a_copy(copies: Path, tmp_path: Path) -> None:
    copied = pin(copies, "3.5.1")
    assert EtcdTools("", copies, nobody).find("etcdctl") == str(copies / copied.folder / "etcdctl")
    on_path = script(tmp_path / "path/etcdctl", "etcdctl version: 3.5.2")
    assert EtcdTools("", copies, nobody).find("etcdctl") == str(on_path)
    configured = script(tmp_path / "configured/etcdctl", "etcdctl version: 3.5.3")
    tools = EtcdTools(str(tmp_path / "configured"), copies, nobody)
    assert tools.find("etcdctl") == str(configured)
    with pytest.raises(CommandMissing, match="etcdutl is not in"):
        tools.find("etcdutl")  # never half from here and half from there
    assert (tools.are_copied, tools.describe().source) == (False, "configured")


def test_a_copy_is_made_when_there_is_none(copies: Path) -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        pin(copies, "3.4.9", ("etcdctl",))

    tools = EtcdTools("", copies, ask)
    assert tools.version() == "3.4.9"
    assert tools.version() == "3.4.9"
    with pytest.raises(CommandMissing, match="etcdutl is not among the tools of /bin/etcd"):
        tools.find("etcdutl")
    assert asked == [1]
    tools.refresh()
    assert asked == [1, 1]


def test_what_stands_against_a_copy_is_asked_for_once(copies: Path) -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        nobody()

    tools = EtcdTools("", copies, ask)
    for name in ("etcdctl", "etcdutl", "etcdctl"):
        with pytest.raises(RootServiceMissing):
            tools.find(name)
    assert asked == [1]


def other_bytes(folder: Path) -> None:
    with (folder / "etcdctl").open("a") as stream:
        stream.write("# x\n")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def damaged_pin(folder: Path) -> None:
    (folder.parent / "pinned.json").write_text("{")


@pytest.mark.parametrize("alter", [other_bytes, gone, damaged_pin])
def test_altered_tools_are_not_run(copies: Path, tmp_path: Path, alter: Callable[[Path], None]) -> None:
    copied = pin(copies, "3.5.1")
    script(copies / copied.folder / "etcdutl", "etcdutl version: 3.5.1")
    alter(copies / copied.folder)
    with pytest.raises(ToolsAltered) as caught:
        EtcdTools("", copies, nobody).find("etcdctl")
    assert caught.value.code == "tools_altered"


def test_a_copy_that_does_not_run_here_says_so(copies: Path) -> None:
    copied = pin(copies, "3.5.1")
    path = script(copies / copied.folder / "etcdctl", "cannot load a library", 127)
    content = (copies / "pinned.json").read_text()
    now = hashlib.sha256(path.read_bytes()).hexdigest()
    (copies / "pinned.json").write_text(content.replace(copied.tools[0].sha256, now))
    with pytest.raises(EtcdAnswerInvalid, match="ended with 127") as caught:
        EtcdTools("", copies, nobody).version()
    assert "install etcdctl instead" in caught.value.hint


def test_without_the_folders_there_is_no_root_service(tmp_path: Path) -> None:
    with pytest.raises(RootServiceMissing, match="it is not installed") as caught:
        RootServiceDoor(tmp_path).ask(COPY_TOOLS)
    assert "etcd-agent-root.path" in caught.value.hint
    assert caught.value.exit_code == 1


def test_nobody_takes_the_request_and_it_is_taken_back(tmp_path: Path) -> None:
    node = RootNode(tmp_path / "node", one_user=True)
    with pytest.raises(RootServiceFailed, match="did not take the request") as caught:
        RootServiceDoor(node.paths.spool, timeout_s=0.3).ask(COPY_TOOLS)
    assert "systemctl status etcd-agent-root.path" in caught.value.hint
    assert list(node.requests.iterdir()) == []


def test_the_answers_lines_are_ours_with_their_own_time_and_span(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = RootNode(tmp_path / "node", one_user=True)
    node.configure(f'[etcd]\ndata_dir = "{tmp_path}/data"\n')
    with (
        caplog.at_level(logging.INFO), node.path_unit(), trace.bound(trace_id=TRACE_ID, op_id="snapshot-1234"),
        trace.span() as span_id, pytest.raises(EtcdProcessUnclear) as caught,
    ):  # fmt: skip
        RootServiceDoor(node.paths.spool).ask(COPY_TOOLS)
    assert caught.value.reason == "data-dir-missing"
    (answer,) = [json.loads(path.read_text()) for path in node.results.iterdir()]
    assert (answer["trace_id"], answer["op_id"]) == (TRACE_ID, "snapshot-1234")
    told = {record.__dict__["event"]: record for record in caplog.records if "event" in record.__dict__}
    assert list(told) == ["root.asked", "root.started", "root.failed", "root.answered"]
    started = told["root.started"]
    line = answer["log_lines"][0]
    assert (started.__dict__["service"], started.__dict__["parent_span_id"]) == ("etcd-agent-root", span_id)
    assert (started.getMessage(), started.__dict__["span_id"]) == (line["message"], line["span_id"])
    assert started.created == datetime.fromisoformat(line["timestamp"]).timestamp()


@pytest.mark.parametrize(
    "code, kind",
    [
        ("etcd_tools_missing", EtcdToolsMissing), ("etcd_process_unclear", EtcdProcessUnclear),
        ("internal_error", RootServiceFailed), ("of_a_later_version", RootServiceFailed),
    ],
)  # fmt: skip
def test_roots_error_is_raised_as_its_own_kind(tmp_path: Path, code: str, kind: type[AgentError]) -> None:
    node = RootNode(tmp_path / "node", one_user=True)
    door = RootServiceDoor(node.paths.spool, timeout_s=10)

    def answer() -> None:
        wait_until(lambda: bool(list(node.requests.glob("*.json"))), "nobody asks")
        (request,) = node.requests.glob("*.json")
        error = ErrorResult(code, "[x] why", "do")
        failed = RootResult(request.stem, "copy-tools", TRACE_ID, "", "failed", "", "", error=error)
        files.publish(node.results / request.name, msgspec.json.encode(failed))

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(kind) as caught:
        door.ask(COPY_TOOLS)
    thread.join()
    assert (caught.value.message, caught.value.hint) == ("[x] why", "do")
