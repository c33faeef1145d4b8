"""What is pinned of copied tools, where they are looked for, and which versions fit."""

import msgspec
import pytest

from agent.domain import etcd_tools, root_request
from agent.domain.etcd_tools import Pin, PinnedTool
from agent.domain.root_request import RootRequest
from agent.errors import BadInput, ToolsAltered

TRACE_ID = "1" * 32
PIN = Pin("0123456789ab-01234567", (PinnedTool("etcdctl", "0" * 64, 1, "/bin/etcdctl"),), 7, "/bin/etcd", "now", "")


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("3.5.16", "3.5.21", True), ("3.5.16", "3.6.0", False), ("3.5", "3.5.1", True), ("v3.5.1", "3.5.0", True),
        ("3.5.0-rc.1", "3.5.9", True), ("3.50.1", "3.5.1", False), ("", "", False), ("3", "3", False),
    ],
)  # fmt: skip
def test_versions_are_of_one_minor_or_not(one: str, other: str, same: bool) -> None:
    assert etcd_tools.same_minor(one, other) is same


@pytest.mark.parametrize(
    "printed, version",
    [
        ("etcdctl version: 3.5.16\nAPI version: 3.5\n", "3.5.16"), ("etcdutl version: 3.6.0\n", "3.6.0"),
        ("API version: 3.5\n", None), ("", None),
    ],
)  # fmt: skip
def test_the_version_is_read_out_of_what_a_tool_prints(printed: str, version: str | None) -> None:
    assert etcd_tools.tool_version(printed) == version


def test_tools_are_looked_for_beside_etcd_first() -> None:
    folders = etcd_tools.search_folders("/usr/bin:relative:/opt/x/::/bad\nline:/usr/bin", "/opt/etcd/bin/etcd")
    assert folders == ["/opt/etcd/bin", "/usr/bin", "/opt/x", "/usr/local/bin", "/bin"]
    assert etcd_tools.search_folders("", "/etcd")[0] == "/"


def test_a_pin_is_read_as_it_was_written() -> None:
    assert etcd_tools.decode_pin(msgspec.json.encode(PIN)) == PIN
    assert PIN.tool("etcdctl") == PIN.tools[0]
    assert PIN.tool("etcdutl") is None


@pytest.mark.parametrize(
    "was, now",
    [
        (b'"0123456789ab-01234567"', b'"../../usr/bin"'), (b'"etcdctl"', b'"sh"'), (b'"schema":1', b'"schema":2'),
        (b'"size_bytes"', b'"size"'), (b"0" * 64, b"0" * 63), (b"{", b""),
    ],
)  # fmt: skip
def test_an_altered_pin_is_not_believed(was: bytes, now: bytes) -> None:
    content = msgspec.json.encode(PIN)
    assert was in content
    with pytest.raises(ToolsAltered):
        etcd_tools.decode_pin(content.replace(was, now, 1))


REQUEST = RootRequest("copy-tools-01234567", "copy-tools", TRACE_ID)


def test_a_request_is_read_as_it_was_written() -> None:
    assert root_request.decode(msgspec.json.encode(REQUEST), REQUEST.id) == REQUEST


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "fence"}, {"verb": "copy-tools\n"}, {"verb": "../x"}, {"trace_id": "0" * 32}, {"op_id": "../../etc"},
        {"id": "other-01234567"}, {"path": "/etc/shadow"}, {"schema": 2}, {"span_id": "x"}, {"op_id": "short"},
    ],
)  # fmt: skip
def test_a_request_of_another_shape_is_none(change: dict[str, object]) -> None:
    content = msgspec.json.encode(msgspec.to_builtins(REQUEST) | change)
    with pytest.raises(BadInput):
        root_request.decode(content, REQUEST.id)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"id":1}'])
def test_what_is_no_request_at_all_is_none(content: bytes) -> None:
    with pytest.raises(BadInput):
        root_request.decode(content, REQUEST.id)


@pytest.mark.parametrize(
    "name",
    [
        "short.json", "x" * 65 + ".json", "../etc/passwd", "copy-tools-1", "A2345678.json", ".json",
        "copy-tools-1.json\n", "caf\udce9-tools.json",
    ],
)  # fmt: skip
def test_a_name_of_another_shape_has_no_id(name: str) -> None:
    with pytest.raises(BadInput):
        root_request.identifier_of(name)
