"""The spool: a request is never lost and never claimed twice, and what is no request is told."""

import os
from pathlib import Path

import pytest

from agent.adapters.spool import Spool
from agent.domain.request import Record, Result, make
from agent.errors import BadInput


def record(op_id: str = "snapshot-0123456789abcdef", **changes: object) -> Record:
    fields = {"operation": "snapshot", "trace_id": "1" * 32, "requested_at": "2026-01-31T12:00:00Z"} | changes
    return Record(make(op_id=op_id, **fields))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.create()
    return made


def test_a_request_is_claimed_once(spool: Spool) -> None:
    one = record()
    op_id = one.request.op_id
    assert spool.submit(one)
    assert not spool.submit(one)
    assert spool.claim(op_id)
    assert spool.submit(one)
    assert not spool.claim(op_id)
    assert spool.read("running", op_id) == one


def test_a_result_moves_the_record_to_its_end(spool: Spool) -> None:
    one = record()
    op_id = one.request.op_id
    spool.submit(one)
    spool.claim(op_id)
    result = Result(op_id, 1, "1" * 32, "snapshot", "refused", 1, "2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
    spool.finish(Record(one.request, results=(result,)))
    found = spool.find(op_id)
    assert found is not None
    assert found.state == "refused"
    assert spool.names("running") == []


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "not valid"),
        (b"\xff", "not valid"),
        (b"[" * 100_000, "more than"),
        (b'{"request": 1}', "not valid"),
        (b'{"schema":1,"unknown":2}', "not valid"),
    ],
)
def test_what_is_no_request_is_bad_input(spool: Spool, content: bytes, why: str) -> None:
    spool.path("incoming", "snapshot-1").write_bytes(content)
    with pytest.raises(BadInput, match=why):
        spool.read("incoming", "snapshot-1")


def test_a_link_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    spool.path("incoming", "snapshot-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="plain file"):
        spool.read("incoming", "snapshot-1")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of another owner")
def test_a_strangers_file_is_rejected(spool: Spool) -> None:
    spool.submit(record("snapshot-1"))
    os.chown(spool.path("incoming", "snapshot-1"), 65534, 65534)
    with pytest.raises(BadInput, match="belongs to uid 65534"):
        spool.read("incoming", "snapshot-1")


@pytest.mark.parametrize("op_id", ["short", "UPPERCASE-1", "snapshot-1\n", "../../etc/passwd", "a" * 65])
def test_an_op_id_is_a_closed_pattern(op_id: str) -> None:
    with pytest.raises(BadInput):
        record(op_id)


def test_unknown_operations_and_parameters_are_bad_input() -> None:
    with pytest.raises(BadInput, match="does not exist"):
        record(operation="rm-rf")
    with pytest.raises(BadInput, match="'x' does not exist"):
        record(params={"x": "1"})
    with pytest.raises(BadInput, match="not allowed"):
        record(params={"emergency": "true\n"})
