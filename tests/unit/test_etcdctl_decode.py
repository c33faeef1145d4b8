"""etcdctl's outputs and failures, recorded by version: typed as they are, and each failure classed as it has to be.

The samples were made by real clusters of the version that their folder names.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters import etcdctl, etcdutl
from agent.adapters.etcdctl import Etcdctl
from agent.adapters.process import Completed
from agent.config import EtcdConfig
from agent.domain.cluster import AlarmKind, hex_id
from agent.domain.etcd_failure import classify, explain
from agent.errors import (
    AgentError,
    BadInput,
    CommandKilled,
    EtcdAnswerInvalid,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    NoSpace,
)
from tests.unit import recorded
from tests.unit.recorded import CLASSES, VERSIONS, Case, answer, case_of, cases, outcome_of


def ended() -> list[Case]:
    """The calls that printed something before they ended."""
    return [case for case in cases() if case.returncode is not None]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_case_is_recorded_of_every_version(version: str) -> None:
    assert sorted(case.name for case in cases() if case.version == version) == sorted(CLASSES)


@pytest.mark.parametrize("case", ended(), ids=lambda case: f"{case.version}-{case.name}")
def test_every_recorded_call_has_its_class(case: Case) -> None:
    error = outcome_of(case)
    assert type(error) is (case.wanted or type(None))
    if error is not None:
        assert error.message
        assert error.retryable is (type(error) in (EtcdUnavailable, EtcdOutcomeUnknown))


@pytest.mark.parametrize("case", [case for case in cases() if case.returncode is None], ids=lambda case: case.name)
def test_a_call_that_never_ends_or_has_no_program_is_the_process_adapters_matter(case: Case) -> None:
    assert case.wanted in (recorded.NEVER_ENDS, recorded.MISSING)


@pytest.mark.parametrize(
    "name, text",
    [
        ("tls-wrong-ca", "x509: certificate signed by unknown authority"),
        ("no-endpoint-status", "connect: connection refused"),
        ("nospace-put", "etcdserver: mvcc: database space exceeded"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_reason_that_lies_deepest_is_told(version: str, name: str, text: str) -> None:
    assert text in explain(case_of(version, name).stderr)


def test_a_crash_is_told_by_its_first_words_and_not_by_the_end_of_its_stack() -> None:
    found = [case for case in ended() if "goroutine" in case.stderr]
    assert {case.version for case in found} >= {"3.4.23", "3.5.16", "3.5.30"}
    for case in found:
        assert re.search("panic: |fault|assertion|reachable", explain(case.stderr)), case


def test_a_cause_in_quotes_is_told_whole() -> None:
    case = case_of("3.5.16", "tls-no-client-cert")
    assert explain(case.stderr).endswith("(error reading server preface: remote error: tls: certificate required)")


@pytest.mark.parametrize("text", ["leader changed", "no leader", "server stopped", "too many requests"])
def test_texts_of_a_cluster_in_motion_are_retryable(text: str) -> None:
    assert type(classify("get x", "e", 1, f"Error: etcdserver: {text}\n")) is EtcdUnavailable


@pytest.mark.parametrize(
    "text",
    [
        "re-configuration failed due to not enough started members", "too many learner members in cluster",
        "cluster ID mismatch", "corrupt cluster", "mvcc: database space exceeded", "permission denied",
        "authentication failed, invalid user ID or password", "invalid auth token", "rpc not supported for learner",
        "bad leader transferee", "mvcc: required revision has been compacted",
    ],
)  # fmt: skip
def test_texts_that_no_retry_cures_are_hard_stops(text: str) -> None:
    assert type(classify("get x", "e", 1, f"Error: etcdserver: {text}\n")) is EtcdError


def test_a_write_that_timed_out_is_unknown_even_where_an_earlier_try_was_refused() -> None:
    warning = json.dumps({"error": 'desc = "transport: Error while dialing: connect: connection refused"'})
    error = classify("member remove", "e", 1, f"{warning}\nError: context deadline exceeded\n")
    assert type(error) is EtcdOutcomeUnknown
    assert type(classify("member promote", "e", 2, "panic: runtime error: nil\n\ngoroutine 1\n")) is EtcdOutcomeUnknown


@pytest.mark.parametrize(
    "text",
    [
        "etcdserver: request timed out, leader transfer took too long",
        "etcdserver: request timed out, possibly due to previous leader failure",
        "etcdserver: server stopped",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "rpc error: code = Unavailable desc = transport is closing",
        "rpc error: code = Unavailable desc = write tcp 127.0.0.1:1->127.0.0.1:2: use of closed network connection",
        "rpc error: code = Unavailable desc = read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer",
    ],
)
@pytest.mark.parametrize("what", ["member add", "member remove", "member promote", "move-leader", "put"])
def test_a_write_that_etcd_gave_up_waiting_for_may_still_happen(what: str, text: str) -> None:
    assert type(classify(what, "e", 1, f"Error: {text}\n")) is EtcdOutcomeUnknown
    assert type(classify("get x", "e", 1, f"Error: {text}\n")) is EtcdUnavailable


def test_a_killed_etcdctl_leaves_the_outcome_unknown() -> None:
    assert type(classify("member remove", "e", -9, "")) is EtcdOutcomeUnknown


def test_a_full_disk_on_this_node_is_told_as_such() -> None:
    error = classify("snapshot save", "e", 5, "Error: write /w/snapshot.db.part: no space left on device\n")
    assert isinstance(error, NoSpace)


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63, 10**310])
def test_a_size_that_etcd_can_not_have_is_no_answer(number: int) -> None:
    status = [{"Endpoint": "e", "Status": {"header": {}, "dbSize": number}}]
    with pytest.raises(EtcdAnswerInvalid):
        etcdctl.decode(json.dumps(status), list[etcdctl._EndpointStatus], "endpoint status")
    with pytest.raises(EtcdAnswerInvalid):
        etcdctl.decode(json.dumps({"header": {"revision": number}}), etcdctl._Range, "get")
    found = {"hash": 1, "revision": 1, "totalKey": 1, "totalSize": number}
    with pytest.raises(EtcdAnswerInvalid):
        etcdutl.read_status("etcdutl", Completed((), 0, json.dumps(found), ""))


@given(stderr=st.text(), returncode=st.integers(-20, 255), what=st.sampled_from(["member remove", "get x", ""]))
def test_any_stderr_is_classed(stderr: str, returncode: int, what: str) -> None:
    assert isinstance(classify(what, "e", returncode, stderr), EtcdError | BadInput | NoSpace)
    assert isinstance(classify(what, "e", returncode, f'{{"error": "desc = {stderr}"}}\n{{"a"'), AgentError)


def client(folder: Path, stdout: str) -> Etcdctl:
    """The adapter over a program that prints a recorded answer."""
    (folder / "answer").write_text(stdout)
    program = folder / "etcdctl"
    program.write_text(f"#!/bin/sh\nexec cat {folder}/answer\n")
    program.chmod(0o755)
    return Etcdctl(EtcdConfig(endpoints=("http://127.0.0.1:1",), tools_dir=str(folder)))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_status_is_typed(version: str, tmp_path: Path) -> None:
    sample = answer(version, "endpoint-status-nospace")
    status = client(tmp_path, sample).status()
    raw = json.loads(sample)[0]["Status"]
    assert status.member_id == raw["header"]["member_id"] > 2**53
    assert (status.version, status.db_size_bytes) == (version, raw["dbSize"])
    assert status.revision == raw["header"]["revision"]
    assert status.is_leader
    assert not status.is_learner
    assert status.errors == (f"memberID:{status.member_id} alarm:NOSPACE",)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_status_of_a_learner_is_typed(version: str, tmp_path: Path) -> None:
    status = client(tmp_path, answer(version, "endpoint-status-of-learner")).status()
    assert (status.is_learner, status.is_leader, status.version) == (True, False, version)
    assert status.leader not in (0, status.member_id)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_status_without_quorum_knows_no_leader(version: str, tmp_path: Path) -> None:
    status = client(tmp_path, case_of(version, "quorum-lost-status").stdout).status()
    assert status.leader == 0
    assert not status.is_leader
    assert "etcdserver: no leader" in status.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_status_with_one_down_tells_the_others(version: str) -> None:
    case = case_of(version, "status-one-down")
    assert case.returncode == 1
    assert len(etcdctl.decode(case.stdout, list[etcdctl._EndpointStatus], "endpoint status")) == 2


def test_the_greatest_id_of_64_bits_is_told_exactly(tmp_path: Path) -> None:
    greatest = 2**64 - 1
    text = answer("3.5.30", "member-list")
    first = json.loads(text)["members"][0]["ID"]
    rows = client(tmp_path, text.replace(str(first), str(greatest))).members()
    assert hex_id(rows[0].member_id) == "f" * 16
    assert rows[0].member_id == greatest


@pytest.mark.parametrize("version", VERSIONS)
def test_a_status_of_several_members_is_no_answer(version: str, tmp_path: Path) -> None:
    with pytest.raises(EtcdAnswerInvalid, match="3 answers, not one"):
        client(tmp_path, answer(version, "endpoint-status-cluster")).status()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_member_list_is_typed(version: str, tmp_path: Path) -> None:
    members = client(tmp_path, answer(version, "member-list-with-unstarted-learner")).members()
    assert sorted(member.name[-1:] for member in members) == ["", "1", "2", "3"]
    (unstarted,) = [member for member in members if not member.is_started]
    assert (unstarted.is_learner, unstarted.client_urls) == (True, ())
    assert all(member.member_id > 2**53 and member.peer_urls for member in members)


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_alarms_are_typed(version: str, tmp_path: Path) -> None:
    assert client(tmp_path, answer(version, "alarm-list-none")).alarms() == []
    (alarm,) = client(tmp_path, answer(version, "alarm-list-nospace")).alarms()
    assert alarm.kind is AlarmKind.NOSPACE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_snapshot_status_is_typed(version: str) -> None:
    sample = answer(version, "snapshot-status-etcdctl" if version.startswith("3.4.") else "snapshot-status-etcdutl")
    found = etcdutl.read_status("etcdutl", Completed((), 0, sample, "Deprecated: Use `etcdutl snapshot status`\n"))
    assert (found.revision, found.total_size_bytes) == (21, json.loads(sample)["totalSize"])


@pytest.mark.parametrize(
    "returncode, stderr", [(-9, ""), (2, "fatal error: runtime: out of memory\n"), (-15, "Error: x\n")]
)
def test_a_tool_that_was_killed_calls_no_snapshot_damaged(returncode: int, stderr: str) -> None:
    """A verification that fails is on record for good, and the backup is never the latest good one again."""
    with pytest.raises(CommandKilled):
        etcdutl.read_status("etcdutl", Completed((), returncode, "", stderr))


@pytest.mark.parametrize("stdout", ["", "null", "{}", "[" * 9_999, '{"hash":"1"}', "Snapshot saved\n"])
def test_a_tool_that_answers_oddly_calls_no_snapshot_damaged(stdout: str) -> None:
    with pytest.raises(EtcdAnswerInvalid):
        etcdutl.read_status("etcdutl", Completed((), 0, stdout, ""))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
SHAPES: list[tuple[Any, str]] = [
    (list[etcdctl._EndpointStatus], "endpoint-status-cluster"),
    (etcdctl._Members, "member-list"),
    (etcdctl._Alarms, "alarm-list-nospace"),
]


def decoded_or_invalid(text: str, kind: Any) -> None:
    try:
        etcdctl.decode(text, kind, "endpoint status")
    except EtcdAnswerInvalid as error:
        assert len(error.message) < 1000  # noqa: PT017 - not whether it raises, but what it says when it does


@given(shape=st.sampled_from(SHAPES), cut=st.integers(0, 900), garbled=st.text(st.characters(codec=None), max_size=3))
def test_a_cut_or_garbled_answer_is_typed_or_invalid(shape: tuple[Any, str], cut: int, garbled: str) -> None:
    kind, name = shape
    text = answer("3.5.30", name)
    for altered in (text[:cut], text[:cut] + garbled + text[cut + len(garbled) :], text + garbled):
        decoded_or_invalid(altered, kind)


@given(shape=st.sampled_from(SHAPES), value=JSON_VALUES)
def test_any_json_is_typed_or_invalid(shape: tuple[Any, str], value: Any) -> None:
    for around in (value, [{"Endpoint": "x", "Status": value}], {"members": value}, {"alarms": [value], "header": 1}):
        decoded_or_invalid(json.dumps(around), shape[0])


@pytest.mark.parametrize("digits", [20, 400, 5_000, 100_000])
def test_a_huge_id_is_typed_or_invalid(digits: int) -> None:
    decoded_or_invalid(f'{{"members":[{{"ID":{"9" * digits}}}]}}', etcdctl._Members)
