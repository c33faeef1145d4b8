"""The calls whose outputs are recorded: one life of a cluster, from three healthy members to none that answers.

The same calls under the same names on every version, so that versions can be compared.
"""

import contextlib
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.domain.cluster import hex_id
from tests.sandbox.certificates import Authority, Certificate
from tests.sandbox.etcd_cluster import EtcdCluster, EtcdMember, call
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Processes, wait_until

SHORT = ("--dial-timeout", "1s", "--command-timeout", "1s")  # for calls that nobody answers
LONG = ("--dial-timeout", "3s", "--command-timeout", "3s")  # where some answer and some do not
JSON = ("-w", "json")
ENDS_S = 60.0
NEVER_ENDS_S = 3.0  # saves that have no time-out of their own wait for ever
TEXT_CHARACTERS = 1500
IN_MOTION = ("unhealthy cluster", "in sync with leader")
NOWHERE = "https://127.0.0.1:9"


@dataclass(frozen=True)
class Told:
    """One call and what it printed. `returncode` is `TIMEOUT` or `NOENT` where it never ended or is no program."""

    name: str
    command: str
    returncode: int | str
    stdout: str
    stderr: str
    is_answer: bool


class Storyteller:
    """Runs the tools of one version and remembers each call under its name."""

    def __init__(self, tools: Path, work: Path) -> None:
        self._tools, self._work, self._folder = tools, work, f"{work.parent}/"
        self.told: list[Told] = []

    def fails(self, name: str, program: str, *words: str, timeout_s: float = ENDS_S) -> Told:
        """A call that is recorded as a failure, or as what succeeds where others fail."""
        return self._tell(name, program, words, is_answer=False, timeout_s=timeout_s)

    def fail_side_by_side(self, calls: Sequence[tuple[str, ...]], *, timeout_s: float = ENDS_S) -> None:
        """Calls that change nothing and mostly wait: each a name, a program and its words."""
        with ThreadPoolExecutor(len(calls)) as pool:
            tellers = [Storyteller(self._tools, self._work) for _ in calls]
            pending = [
                pool.submit(partial(teller.fails, timeout_s=timeout_s), *call)
                for teller, call in zip(tellers, calls, strict=True)
            ]
            self.told += [told.result() for told in pending]

    def answers(self, name: str, program: str, *words: str) -> Told:
        """A call whose answer is recorded, where this version gives one."""
        told = self._tell(name, program, (*words, *JSON), is_answer=True)
        if told.returncode != 0 or not told.stdout.startswith(("{", "[")):  # etcdctl 3.6 has help for `snapshot status`
            self.told.pop()
        return told

    def until_answered(self, name: str, program: str, *words: str) -> str:
        """The same, again and again while the cluster is still in motion after a change; returns the answer."""
        last: list[Told] = []

        def is_settled() -> bool:
            last[:] = [self.answers(name, program, *words)]
            return not any(text in last[0].stderr for text in IN_MOTION)

        wait_until(is_settled, f"{name} is refused")
        return last[0].stdout

    def _tell(
        self, name: str, program: str, words: Sequence[str], *, is_answer: bool, timeout_s: float = ENDS_S
    ) -> Told:
        returncode, *texts = self.run(program, words, timeout_s=timeout_s)
        command, stdout, stderr = (text.replace(self._folder, "") for text in (" ".join((program, *words)), *texts))
        self.told.append(Told(name, command, returncode, stdout, _without_stack(stderr), is_answer))
        return self.told[-1]

    def run(self, program: str, words: Sequence[str], *, timeout_s: float = ENDS_S) -> tuple[int | str, str, str]:
        """A call that is no part of the story."""
        command = [str(self._tools / program), *words]
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=timeout_s, cwd=self._work, env={"PATH": "/usr/bin:/bin"},
                check=False,
            )  # fmt: skip
        except FileNotFoundError:
            return "NOENT", "", ""
        except subprocess.TimeoutExpired as error:
            return "TIMEOUT", (error.stdout or b"").decode(), (error.stderr or b"").decode()
        return ended.returncode, ended.stdout.decode(), ended.stderr.decode(errors="replace")


def tell(tools: Path, folder: Path) -> list[Told]:
    """The whole story on clusters below `folder`; its two halves side by side, as they mostly wait."""
    work = folder / "work"
    work.mkdir()
    with ThreadPoolExecutor(2) as pool:
        halves = [pool.submit(half, tools, folder, work) for half in (_of_three_members, _of_one_member)]
        return [told for half in halves for told in half.result()]


def _of_three_members(tools: Path, folder: Path, work: Path) -> list[Told]:
    teller = Storyteller(tools, work)
    with Processes(folder / "logs-of-three") as processes:
        trio = EtcdCluster(processes, folder / "trio", tools)
        trio.start()
        _healthy(teller, trio)
        _learner(teller, trio)
        _one_down(teller, trio)
        _no_quorum(teller, trio)
    return teller.told


def _of_one_member(tools: Path, folder: Path, work: Path) -> list[Told]:
    teller = Storyteller(tools, work)
    with Processes(folder / "logs-of-one") as processes:
        single = EtcdCluster(processes, folder / "single", tools, size=1)
        single.start()
        (member,) = single.members
        _nowhere(teller)
        _certificates(teller, member, Authority(folder / "pki", "another organization"))
        _snapshot_files(teller, member, work)
        _no_space(teller, member)
    return teller.told


def _without_stack(stderr: str) -> str:
    """The beginning and the end: what lies between is the stack of a crash."""
    return stderr if len(stderr) <= 2 * TEXT_CHARACTERS else f"{stderr[:TEXT_CHARACTERS]}\n{stderr[-TEXT_CHARACTERS:]}"


def _to(*members: EtcdMember, certificate: Certificate | None = None) -> tuple[str, ...]:
    tls = certificate or members[0].certificate
    endpoints = ",".join(member.client_url for member in members)
    return ("--endpoints", endpoints, "--cacert", str(tls.ca_cert), "--cert", str(tls.cert), "--key", str(tls.key))


def _ids(told: Told) -> dict[str, str]:
    """Member ids in hex by name, out of a member list."""
    return {member.get("name", ""): hex_id(member["ID"]) for member in json.loads(told.stdout)["members"]}


def _leads(teller: Storyteller, member: EtcdMember) -> str:
    """The id of the leader in hex, as a member names it; empty when it knows none."""
    told = teller.answers("ignored", "etcdctl", *_to(member), "endpoint", "status")
    teller.told.remove(told)
    return hex_id(json.loads(told.stdout)[0]["Status"].get("leader", 0))


def _healthy(teller: Storyteller, trio: EtcdCluster) -> None:
    first, everyone = _to(trio.members[0]), _to(*trio.members)
    for number in range(20):
        teller.run("etcdctl", [*first, "put", f"/registry/{number}", "x" * 100])
    teller.answers("endpoint-status", "etcdctl", *everyone, "endpoint", "status")
    teller.answers("endpoint-status-cluster", "etcdctl", *first, "endpoint", "status", "--cluster")
    teller.answers("endpoint-health-cluster", "etcdctl", *first, "endpoint", "health", "--cluster")
    teller.answers("endpoint-hashkv-cluster", "etcdctl", *first, "endpoint", "hashkv", "--cluster")
    teller.answers("alarm-list-none", "etcdctl", *first, "alarm", "list")
    ids = _ids(teller.answers("member-list", "etcdctl", *first, "member", "list"))
    leader = _leads(teller, trio.members[0])
    followers = [member for member in trio.members if ids[member.name] != leader]
    target = ids[followers[1].name]
    teller.fails("move-leader-from-follower", "etcdctl", *_to(followers[0]), "move-leader", target)
    teller.fails("move-leader-all-endpoints", "etcdctl", *everyone, "move-leader", target)
    teller.answers("move-leader", "etcdctl", *everyone, "move-leader", leader)
    teller.fails("snapshot-save-multi-endpoint", "etcdctl", *everyone, "snapshot", "save", "s2.db")
    teller.fails("snapshot-save-noperm-dir", "etcdctl", *first, "snapshot", "save", "/nonexistent/s.db")


def _learner(teller: Storyteller, trio: EtcdCluster) -> None:
    first, joiner = _to(trio.members[0]), trio.new_member(4)
    add = ("member", "add", joiner.name, "--learner", "--peer-urls", joiner.peer_url)
    added = teller.until_answered("member-add-learner", "etcdctl", *first, *add)
    learner = hex_id(json.loads(added)["member"]["ID"])
    teller.answers("member-list-with-unstarted-learner", "etcdctl", *first, "member", "list")
    teller.fails("promote-not-started-learner", "etcdctl", *first, "member", "promote", learner)
    other = trio.new_member(5)
    another = ("member", "add", "node-5", "--learner", "--peer-urls", other.peer_url)
    teller.fails("add-second-learner", "etcdctl", *first, *another)
    teller.fails("add-existing-peer-url", "etcdctl", *first, "member", "add", "node-4b", "--peer-urls", joiner.peer_url)
    trio.start_member(joiner, joins=True)
    status = [*_to(joiner), *SHORT, "endpoint", "status"]
    wait_until(lambda: teller.run("etcdctl", status)[0] == 0, "the learner does not start", child=joiner.child)
    teller.answers("endpoint-status-of-learner", "etcdctl", *status)
    promote = ("member", "promote", learner)
    # On versions where a promotion answers no JSON it is not recorded; it works all the same.
    teller.until_answered("member-promote", "etcdctl", *first, *promote)
    teller.fails("promote-already-voter", "etcdctl", *first, *promote)
    teller.answers("member-remove", "etcdctl", *first, "member", "remove", learner)
    assert joiner.child is not None
    with contextlib.suppress(RuntimeError):  # not every version ends then
        wait_until(lambda: joiner.child is not None and not joiner.child.is_running(), "it runs on", timeout_s=5)
    teller.fails("removed-member-endpoint-status", "etcdctl", *status)
    teller.fails("remove-unknown-id", "etcdctl", *first, "member", "remove", "deadbeef")
    teller.fails("remove-bad-id", "etcdctl", *first, "member", "remove", "zzz")
    teller.fails("promote-unknown-id", "etcdctl", *first, "member", "promote", "deadbeef")
    teller.fails("remove-already-removed", "etcdctl", *first, "member", "remove", learner)


def _one_down(teller: Storyteller, trio: EtcdCluster) -> None:
    one, two, down = trio.members
    ids = _ids(teller.answers("member-list", "etcdctl", *_to(one), "member", "list"))
    teller.told.pop()
    assert down.child is not None
    down.child.kill()
    wait_until(lambda: one.is_healthy() and two.is_healthy(), "two of three are not healthy")
    everyone, first = (*_to(*trio.members), *LONG), (*_to(one), *LONG)
    teller.fail_side_by_side(
        [(f"{verb}-one-down", "etcdctl", *everyone, "endpoint", verb, *JSON) for verb in ("status", "health", "hashkv")]
    )
    teller.fails("remove-healthy-would-lose-quorum", "etcdctl", *first, "member", "remove", ids[two.name])
    more = ("member", "add", "node-5", "--peer-urls", trio.new_member(5).peer_url)
    teller.fails("add-voter-while-one-down", "etcdctl", *first, *more)
    teller.fails("move-leader-to-dead", "etcdctl", *_to(one, two), *SHORT, "move-leader", ids[down.name])


def _no_quorum(teller: Storyteller, trio: EtcdCluster) -> None:
    one, two, _ = trio.members
    ids = _ids(teller.answers("member-list", "etcdctl", *_to(one), "member", "list"))
    teller.told.pop()
    assert two.child is not None
    two.child.kill()
    wait_until(lambda: _leads(teller, one) == "0", "the last member still names a leader")
    first, sure = (*_to(one), *SHORT), (*_to(one), *LONG)
    teller.fail_side_by_side(
        [
            ("quorum-lost-put", "etcdctl", *first, "put", "a", "b"),
            ("quorum-lost-get", "etcdctl", *first, "get", "a"),
            ("quorum-lost-get_serializable", "etcdctl", *sure, "get", "a", "--consistency=s"),
            ("quorum-lost-status", "etcdctl", *sure, "endpoint", "status", *JSON),
            ("quorum-lost-health", "etcdctl", *first, "endpoint", "health", *JSON),
            ("quorum-lost-memberlist", "etcdctl", *first, "member", "list", *JSON),
            ("quorum-lost-hashkv", "etcdctl", *sure, "endpoint", "hashkv", *JSON),
            ("quorum-lost-remove", "etcdctl", *first, "member", "remove", ids[two.name]),
            ("quorum-lost-alarmlist", "etcdctl", *first, "alarm", "list", *JSON),
        ]
    )
    teller.fails("quorum-lost-defrag", "etcdctl", *sure, "defrag")
    teller.fails("quorum-lost-snapshot-save", "etcdctl", *sure, "snapshot", "save", "ql.db")


def _nowhere(teller: Storyteller) -> None:
    to = ("--endpoints", NOWHERE, *SHORT)
    teller.fail_side_by_side(
        [
            ("no-endpoint-status", "etcdctl", *to, "endpoint", "status", *JSON),
            ("no-endpoint-health", "etcdctl", *to, "endpoint", "health", *JSON),
            ("no-endpoint-member-list", "etcdctl", *to, "member", "list", *JSON),
            ("no-endpoint-get", "etcdctl", *to, "get", "a"),
        ]
    )


def _certificates(teller: Storyteller, member: EtcdMember, stranger: Authority) -> None:
    other, own = stranger.issue("client", "127.0.0.1"), member.certificate
    at = ("--endpoints", member.client_url)
    status = (*SHORT, "endpoint", "status")
    own_pair = ("--cert", str(own.cert), "--key", str(own.key))
    other_pair = ("--cert", str(other.cert), "--key", str(other.key))
    ca = ("--cacert", str(own.ca_cert))
    plain = member.client_url.replace("https:", "http:")
    teller.fail_side_by_side(
        [
            ("tls-no-client-cert", "etcdctl", *at, *ca, *status),
            ("tls-bad-client-cert", "etcdctl", *at, *ca, *other_pair, *status),
            ("tls-wrong-ca", "etcdctl", *at, "--cacert", str(other.ca_cert), *own_pair, *status),
            ("tls-missing-cert-file", "etcdctl", *at, "--cacert", "nope.crt", *own_pair, *status),
            ("plain-to-tls-port", "etcdctl", "--endpoints", plain, *status),
        ]
    )
    save = ("--dial-timeout", "1s", "snapshot", "save")
    nowhere = ("snapshot-save-dialtimeout", "etcdctl", "--endpoints", NOWHERE, *save, "z.db")
    stranger_s = ("tls-bad-cert-snapshot", "etcdctl", *at, *ca, *other_pair, *save, "y.db")
    teller.fail_side_by_side([nowhere, stranger_s], timeout_s=NEVER_ENDS_S)


def _snapshot_files(teller: Storyteller, member: EtcdMember, work: Path) -> None:
    for number in range(20):
        teller.run("etcdctl", [*_to(member), "put", f"/registry/{number}", "x" * 100])
    teller.run("etcdctl", [*_to(member), "snapshot", "save", "s.db"])
    whole = (work / "s.db").read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0xFF
    (work / "cor.db").write_bytes(altered)
    (work / "trunc.db").write_bytes(whole[: len(whole) // 2])
    (work / "copy.db").write_bytes(whole)  # it writes into the file
    teller.answers("etcdutl-hashkv", "etcdutl", "hashkv", "copy.db", "--rev=21")
    for program in ("etcdctl", "etcdutl"):
        teller.answers(f"snapshot-status-{program}", program, "snapshot", "status", "s.db")
        for damage in ("cor", "trunc"):
            words = ("snapshot", "restore", f"{damage}.db", "--data-dir", f"r{program}{damage}")
            teller.fails(f"{program}-status-{damage}", program, "snapshot", "status", f"{damage}.db", *JSON)
            teller.fails(f"{program}-restore-{damage}", program, *words)
    restore = ("snapshot", "restore", "s.db", "--data-dir", "rok")
    teller.fails("restore-ok-etcdctl", "etcdctl", *restore)
    teller.fails("restore-existing-dir", "etcdctl", *restore)


def _no_space(teller: Storyteller, member: EtcdMember) -> None:
    to = (*_to(member), *LONG)
    told = teller.answers("ignored", "etcdctl", *to, "endpoint", "status")
    teller.told.remove(told)
    member_id = json.loads(told.stdout)[0]["Status"]["header"]["member_id"]
    with member.connection() as connection:
        alarm = {"action": "ACTIVATE", "memberID": str(member_id), "alarm": "NOSPACE"}
        call(connection, "/v3/maintenance/alarm", alarm)
    teller.fails("nospace-put", "etcdctl", *to, "put", "a", "b")
    teller.fails("nospace-status", "etcdctl", *to, "endpoint", "status", *JSON)
    teller.fails("nospace-health", "etcdctl", *to, "endpoint", "health", *JSON)
    teller.fails("nospace-get", "etcdctl", *to, "get", "/registry/1", "--keys-only")
    teller.fails("nospace-snapshot", "etcdctl", *to, "snapshot", "save", "ns.db")
    teller.answers("endpoint-status-nospace", "etcdctl", *to, "endpoint", "status")
    teller.answers("alarm-list-nospace", "etcdctl", *to, "alarm", "list")
    teller.answers("alarm-disarm", "etcdctl", *to, "alarm", "disarm")
    peer = f"https://127.0.0.1:{free_port()}"
    teller.fails("nospace-member-add", "etcdctl", *to, "member", "add", "node-8", "--learner", "--peer-urls", peer)
