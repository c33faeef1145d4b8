"""What is no request, put before a real daemon: aside with its reason and an error line, and good ones run on."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain import request as requests
from agent.domain.request import MOST_REQUEST_BYTES, Record
from tests.integration.daemon_node import DaemonNode, node_in
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
NAME = "snapshot-hostile.json"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    with node_in(tmp_path) as made:
        made.start()
        yield made


def document(**changes: Any) -> dict[str, Any]:
    fields = {
        "op_id": "snapshot-hostile", "operation": "snapshot", "trace_id": "1" * 32,
        "requested_at": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    return {"request": fields | changes, "schema": 1}


def content(**changes: Any) -> bytes:
    return json.dumps(document(**changes)).encode()


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def linked(path: Path, other: bytes) -> None:
    """A second name of a file that is elsewhere."""
    kept = path.with_name("elsewhere")
    kept.write_bytes(other)
    os.link(kept, path)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def foreign(path: Path) -> None:
    path.write_bytes(content())
    os.chown(path, 65534, 65534)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "not valid"),
    "no JSON": (lambda path: path.write_bytes(b"\xff\x00garbage"), "not valid"),
    "half written": (lambda path: path.write_bytes(content()[:-20]), "not valid"),
    "two documents": (lambda path: path.write_bytes(content() * 2), "not valid"),
    "too deep": (lambda path: path.write_bytes(b"[" * 60_000), "not valid"),
    "huge": (lambda path: path.write_bytes(content() + b" " * MOST_REQUEST_BYTES), "more than the"),
    "huge and sparse": (sparse, "more than the"),
    "a link": (lambda path: path.symlink_to("/etc/passwd"), "plain file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "plain file"),
    "a second name of another request": (lambda path: linked(path, content(op_id="snapshot-another")), "holds the"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a socket": (bind, "plain file"),
    "a folder": (lambda path: path.mkdir(), "not a regular file"),
    "of another name": (lambda path: path.write_bytes(content(op_id="snapshot-another")), "holds the request"),
    "an unknown operation": (lambda path: path.write_bytes(content(operation="reboot")), "does not exist"),
    "an unknown parameter": (lambda path: path.write_bytes(content(params={"x": "1"})), "does not exist"),
    "a wrong parameter": (lambda path: path.write_bytes(content(params={"emergency": "$(id)"})), "not allowed"),
    "an unknown field": (lambda path: path.write_bytes(content(more=1)), "unknown field"),
    "another schema": (lambda path: path.write_bytes(content().replace(b'"schema": 1', b'"schema": 2')), "not valid"),
    "of another user": (foreign, "belongs to uid 65534"),
    "a device": (lambda path: os.mknod(path, 0o20600, os.makedev(1, 3)), "not a regular file"),
}


def put(node: DaemonNode, name: str, make: Callable[[Path], object]) -> None:
    """Made beside the spool and moved in whole: the daemon is quick to look."""
    beside = node.root / "made"
    beside.mkdir()
    make(beside / name)
    (beside / name).rename(node.spool.folder / "incoming" / name)


@pytest.mark.parametrize("how", HOSTILE)
def test_it_is_put_aside_with_its_reason_and_good_requests_run(node: DaemonNode, how: str) -> None:
    make, reason = HOSTILE[how]
    if how in ("of another user", "a device") and os.geteuid() != 0:
        pytest.skip("needs root: makes what belongs to somebody else")
    node.hold()
    node.submit("snapshot-before")
    node.until_saving()
    put(node, NAME, make)
    node.submit("snapshot-after-it")
    wait_until(lambda: node.count("request.rejected") == 1, "it is not rejected")
    node.go_on()
    assert node.until_ended("snapshot-before").status == "succeeded"
    assert node.until_ended("snapshot-after-it").status == "succeeded"
    (told,) = node.spool.rejections.all()
    assert told["name"] == NAME
    assert reason in told["reason"], told
    (line,) = [line for line in node.lines() if line["event"] == "request.rejected"]
    assert (line["level"], line["error_code"]) == ("ERROR", "bad_input")
    assert reason in line["error_message"]
    assert not os.path.lexists(node.spool.folder / "incoming" / NAME)
    assert node.spool.find("snapshot-hostile") is None
    assert len(node.stored("manifest")) == 2


@pytest.mark.parametrize(
    "name",
    ["UPPER-CASE.json", "short.json", "snapshot-1", "snapshot-hostile.json.json", "snapshot hostile.json", "ñ.json"],
)
def test_a_name_that_is_none_is_put_aside(node: DaemonNode, name: str) -> None:
    put(node, name, lambda path: path.write_bytes(content()))
    wait_until(lambda: node.count("request.rejected") == 1, "it is not rejected")
    node.submit("snapshot-after-it")
    assert node.until_ended("snapshot-after-it").status == "succeeded"
    assert [told["name"] for told in node.spool.rejections.all()] == [name]


def test_who_waits_for_what_is_rejected_is_told_with_2(node: DaemonNode) -> None:
    for words in (
        ["reboot"], ["snapshot", "--param", "x=1"], ["snapshot", "--param", "emergency=maybe"], ["verify"],
        ["snapshot", "--op-id", "Short"], ["snapshot", "--requested-at", "2200-01-01T00:00:00Z"],
    ):  # fmt: skip
        ended = node.command("submit", *words, "--json")
        assert ended.returncode == 2, ended.stdout
        error = json.loads(ended.stdout)["error"]
        assert error["code"] == "bad_input"
        assert error["hint"]
    assert node.count("request.rejected") == 0
    assert node.spool.submit(Record(requests.make(**document(op_id="snapshot-good-1")["request"])))
    assert node.until_ended("snapshot-good-1").status == "succeeded"
