"""What etcdctl and etcdutl print, as recorded of several versions and hurt: typed values, or one of our errors."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from agent.adapters import process
from agent.adapters.etcdctl import Etcdctl
from agent.adapters.etcdutl import SnapshotStatus
from agent.adapters.process import Completed
from agent.cli import status_view, tables
from agent.config import EtcdConfig
from agent.domain import cluster
from agent.domain.cluster import Alarm, EndpointStatus, Member
from agent.domain.cluster_health import Answer, ClusterView, cluster_problems, own_problems
from agent.errors import BadInput, CommandKilled, EtcdAnswerInvalid, EtcdError, NoSpace, SnapshotInvalid
from agent.ports import SnapshotFile
from tests.fuzz import odd
from tests.fuzz.target import Check, Target

SAMPLES = Path(__file__).resolve().parents[1] / "unit/samples"
ALLOWED = (EtcdError, BadInput, NoSpace)
OF_THE_TOOL = (SnapshotInvalid, CommandKilled, EtcdAnswerInvalid)


def recorded(pattern: str) -> list[Any]:
    """The answers of that command, of every version that was recorded."""
    return [json.loads(path.read_text()) for path in sorted(SAMPLES.glob(f"*/{pattern}.json"))]


def one_of_each(documents: list[Any]) -> list[Any]:
    """Of a list of endpoints, each one alone, as our calls ask for it."""
    return [[row] for document in documents for row in document]


ANSWERS: Mapping[str, list[Any]] = {
    "status": one_of_each(recorded("endpoint-status*")),
    "members": recorded("member-list*"),
    "alarms": recorded("alarm-list*"),
    "revision": [{"header": {"cluster_id": 1, "member_id": 2**64 - 1, "revision": 21, "raft_term": 2}, "count": 3}],
    "count": [{"header": {"cluster_id": 1, "member_id": 2**63, "revision": 21, "raft_term": 2}, "count": 3}],
    "file": recorded("snapshot-status*"),
}
FAILURES = [
    (case["rc"], case["stderr"])
    for path in sorted(SAMPLES.glob("*/failures.jsonl"))
    for line in path.read_text().splitlines()
    if isinstance((case := json.loads(line))["rc"], int)
]
VERSIONS = ("etcdctl version: 3.5.16\nAPI version: 3.5\n", "etcdutl version: 3.6.0\nAPI version: 3.6\n", "3.4.23")


@dataclass(frozen=True)
class Printed:
    """Which call is made, and how the tool ends."""

    call: str
    returncode: int
    stdout: str
    stderr: str


@st.composite
def printed(draw: st.DrawFn) -> Printed:
    """A good answer, hurt, or a recorded failure, hurt."""
    call = draw(st.sampled_from([*ANSWERS, *ANSWERS, "version", "describe", "save"]))
    returncode, stderr = 0, b""
    if draw(st.integers(0, 2)) == 0:
        returncode, text = draw(st.sampled_from(FAILURES))
        stderr = draw(odd.hurt(text.encode()))
        if draw(st.booleans()):
            stderr = draw(odd.documents({"level": "warn", "error": "rpc error: code = X desc = y"})) + b"\n" + stderr
        returncode = draw(st.one_of(st.just(returncode), st.integers(-20, 255)))
    if call in ANSWERS:
        stdout = draw(st.one_of(odd.documents(draw(st.sampled_from(ANSWERS[call])), 2), odd.noise))
    else:
        stdout = draw(odd.texts_near(*VERSIONS)).encode("utf-8", "replace")
    if draw(st.integers(0, 15)) == 0:
        stdout = b'{"level":"warn","msg":"x"}\n' + stdout
    return Printed(call, returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    etcd, tool = Etcdctl(EtcdConfig()), SnapshotStatus("")
    path = folder / "snapshot.db"
    calls: Mapping[str, tuple[Callable[[], Any], tuple[type[Exception], ...], Callable[[Any], None]]] = {
        "status": (etcd.status, ALLOWED, _require_status),
        "members": (etcd.members, ALLOWED, _require_members),
        "alarms": (etcd.alarms, ALLOWED, _require_alarms),
        "revision": (etcd.linearizable_revision, ALLOWED, _require_revision),
        "count": (lambda: etcd.count_keys(21), ALLOWED, _require_count),
        "version": (etcd.version, ALLOWED, _require_printable),
        "save": (lambda: etcd.save_snapshot(path, timeout_s=1, on_bytes=print), ALLOWED, _require_nothing),
        "file": (lambda: tool.status(path), OF_THE_TOOL, _require_file),
        "describe": (tool.describe, (), _require_printable),
    }  # fmt: skip

    def check(case: Printed) -> None:
        call, allowed, require = calls[case.call]
        answer = Completed(("etcdctl", case.call), case.returncode, case.stdout, case.stderr)
        with (
            mock.patch.object(process, "run", lambda argv, **options: answer),
            mock.patch.object(process, "find", lambda name, folder="": f"/usr/bin/{name}"),
        ):
            try:
                value = call()
            except allowed as error:
                assert str(error)
                assert len(str(error)) < 3000, "an error is for people to read"
            else:
                require(value)

    yield check


def _require_status(status: EndpointStatus) -> None:
    for number in (
        status.cluster_id, status.member_id, status.leader, status.raft_term, status.raft_applied_index,
    ):  # fmt: skip
        _require_id(number)
    for number in (status.revision, status.db_size_bytes):
        _require_revision(number)
    assert cluster.needed_disk_bytes(status.db_size_bytes) >= 0
    cluster.endpoint_findings(status, status)
    cluster.leader_findings(status)
    own = Member(status.member_id, "node-1", (), ("http://x",), is_learner=False)
    view = ClusterView(status, [Answer(own, status)], [])
    assert isinstance(own_problems(status) + cluster_problems(view), list)
    assert view.describe()
    assert tables.size(status.db_size_bytes)
    assert status_view.DESCRIPTIONS["cluster"]({"summary": view.describe()})


def _require_members(members: list[Member]) -> None:
    for member in members:
        _require_id(member.member_id)
    cluster.other_voters(members, 1)


def _require_alarms(alarms: list[Alarm]) -> None:
    for alarm in alarms:
        _require_id(alarm.member_id)


def _require_file(found: SnapshotFile) -> None:
    assert 0 <= found.hash < 2**32
    for number in (found.revision, found.total_key, found.total_size_bytes):
        _require_revision(number)


def _require_id(number: int) -> None:
    assert number >= 0
    assert int(cluster.hex_id(number), 16) == number


def _require_revision(number: int) -> None:
    """int64 in etcd, and never below zero in an answer that a decision is built on."""
    assert 0 <= number < 2**63, number


def _require_count(count: int | None) -> None:
    if count is not None:
        _require_revision(count)


def _require_nothing(value: None) -> None:
    assert value is None


def _require_printable(text: str) -> None:
    assert len(text) < 200
    assert "\n" not in text


TARGETS = (Target("etcd answers", "stdout, stderr and exit code of etcdctl and etcdutl", 12, printed(), opened),)
