"""Two hashes say something of each other only where nothing but the data can make them differ."""

import itertools
import json
from pathlib import Path

import pytest

from agent.adapters import etcdutl
from agent.adapters.process import Completed
from agent.domain.hash_kv import Hashed, HashKV, compare
from agent.errors import CommandKilled, EtcdAnswerInvalid, SnapshotInvalid
from tests.unit.recorded import VERSIONS, answer
from tests.unit.test_etcdctl_decode import client

ANSWERS = [HashKV(*values) for values in itertools.product((1, 2), (-1, 9), (None, 20, 21))]
VERSIONS_SEEN = ("3.5.16", "3.5.30", "3.6.16", "odd", "")
HASHED = [Hashed("it", version, found) for version, found in itertools.product(VERSIONS_SEEN, ANSWERS)]


def test_equal_and_different_are_told_only_of_what_can_be_compared() -> None:
    for one, other in itertools.product(HASHED, HASHED):
        told_as_it_is(one, other)


def told_as_it_is(one: Hashed, other: Hashed) -> None:
    outcome = compare(one, other, 21).outcome
    assert outcome == compare(other, one, 21).outcome
    same_hash = one.answer.hash == other.answer.hash
    same_base = (
        one.answer.compact_revision == other.answer.compact_revision
        and {one.answer.hash_revision, other.answer.hash_revision} <= {None, 21}
        and one.version[:3] == other.version[:3] in ("3.5", "3.6")
    )
    if not same_base:
        assert outcome == "not_comparable"
    elif same_hash:
        assert outcome == "passed"
    else:
        assert outcome == ("failed" if one.version == other.version else "not_comparable")


def test_the_note_says_what_was_compared() -> None:
    one, other = (Hashed(name, "3.5.16", HashKV(hash_, -1)) for name, hash_ in (("member a", 1), ("member b", 2)))
    assert compare(one, one, 21).note == "member a and member a agree at revision 21: HashKV 00000001"
    assert compare(one, other, 21).note == ("member a and member b DIFFER at revision 21: HashKV 00000001 and 00000002")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_answer_of_a_member_is_typed(version: str, tmp_path: Path) -> None:
    rows = json.loads(answer(version, "endpoint-hashkv-cluster"))
    found = client(tmp_path, json.dumps(rows[:1])).hash_kv(21, timeout_s=5)
    tells_revision = not version.startswith(("3.4.", "3.5."))
    raw = rows[0]["HashKV"]
    assert found == HashKV(raw["hash"], -1, 21 if tells_revision else None, raw["header"]["member_id"])
    with pytest.raises(EtcdAnswerInvalid, match="3 answers, not one"):
        client(tmp_path, json.dumps(rows)).hash_kv(21, timeout_s=5)


@pytest.mark.parametrize("version", ["3.6.16", "3.7.3"])
def test_a_recorded_answer_of_a_file_is_typed_and_that_of_the_members_with_the_same_data(version: str) -> None:
    found = etcdutl.read_hash(Completed((), 0, answer(version, "etcdutl-hashkv"), ""))
    of_members = json.loads(answer(version, "endpoint-hashkv-cluster"))[0]["HashKV"]
    assert (found.hash, found.hash_revision, found.compact_revision) == (of_members["hash"], 21, -1)


@pytest.mark.parametrize("text", ["null", "[]", '[{"Endpoint":"e","HashKV":{"header":{},"hash":-1}}]', "x", ""])
def test_an_odd_answer_of_a_member_is_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(EtcdAnswerInvalid):
        client(tmp_path, text).hash_kv(21, timeout_s=5)


@pytest.mark.parametrize(
    "returncode, stdout, stderr, error",
    [
        (-9, "", "", CommandKilled), (1, "", "Error: mvcc: required revision is a future revision\n", SnapshotInvalid),
        (0, "{}", "", EtcdAnswerInvalid), (0, '{"hash":1,"hashRevision":1}', "", EtcdAnswerInvalid),
    ],
)  # fmt: skip
def test_a_file_without_an_answer_is_an_error(
    returncode: int, stdout: str, stderr: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        etcdutl.read_hash(Completed((), returncode, stdout, stderr))
