"""etcdctl: endpoints and TLS once, `-w json`, an explicit time-out on every call, typed answers, classified errors.

Behaviour by version (3.4 to 3.7) as measured.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent.adapters import process
from agent.adapters.etcdctl_hashkv import COMPACTED, EndpointHashKV, the_one
from agent.config import EtcdConfig
from agent.domain.cluster import Alarm, AlarmKind, EndpointStatus, Member, hex_id
from agent.domain.etcd_failure import classify
from agent.domain.etcd_tools import tool_version
from agent.domain.hash_kv import HashKV
from agent.errors import BadInput, EtcdAnswerInvalid, EtcdError

DIAL_TIMEOUT_S = 2
GRACE_S = 5.0
COLLECT_LESS = {"GOGC": "400"}  # etcdctl makes garbage of each message: a fifth less CPU for 30 MB more, measured
READ_PROBE_KEY = "/etcd-agent/v1/policy"

Unsigned = Annotated[int, msgspec.Meta(ge=0)]  # ids, terms and indexes have 64 bits, which is no bound msgspec knows
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Header(msgspec.Struct):
    cluster_id: Unsigned = 0
    member_id: Unsigned = 0
    revision: Count = 0
    raft_term: Unsigned = 0


class _Status(msgspec.Struct):
    header: _Header
    version: str = ""
    dbSize: Count = 0  # noqa: N815 - etcdctl's own spelling
    leader: Unsigned = 0
    raftTerm: Unsigned = 0  # noqa: N815
    raftAppliedIndex: Unsigned = 0  # noqa: N815
    errors: list[str] = []
    isLearner: bool = False  # noqa: N815


class _EndpointStatus(msgspec.Struct):
    Endpoint: str
    Status: _Status


class _Member(msgspec.Struct):
    ID: Unsigned
    name: str = ""
    peerURLs: tuple[str, ...] = ()  # noqa: N815
    clientURLs: tuple[str, ...] = ()  # noqa: N815
    isLearner: bool = False  # noqa: N815


class _Members(msgspec.Struct):
    members: list[_Member] = []


class _Alarm(msgspec.Struct):
    memberID: Unsigned = 0  # noqa: N815
    alarm: int = 0


class _Alarms(msgspec.Struct):
    alarms: list[_Alarm] = []


class _Range(msgspec.Struct):
    header: _Header
    count: Count = 0


class Etcdctl:
    """One cluster, through the local member's endpoint. Errors: EtcdError's family, CommandTimeout, CommandMissing."""

    def __init__(self, config: EtcdConfig, find: Callable[[str], str] | None = None) -> None:
        self._config = config
        self._find = find or (lambda name: process.find(name, config.tools_dir))

    @property
    def endpoint(self) -> str:
        """The local member's endpoint. Raises BadInput when the configuration names several."""
        endpoints = self._config.endpoints
        if len(endpoints) != 1:
            raise BadInput(
                f"etcd.endpoints names {len(endpoints)} endpoints: {', '.join(endpoints)}",
                hint="name the local member's endpoint alone; the other members are found through it",
            )
        return endpoints[0]

    def status(self) -> EndpointStatus:
        """What the local member says of itself; answered without quorum too."""
        answers = self._json(["endpoint", "status"], list[_EndpointStatus])
        if len(answers) != 1:
            raise EtcdAnswerInvalid(
                f"`etcdctl endpoint status` on {self.endpoint} gave {len(answers)} answers, not one"
            )
        status = answers[0].Status
        return EndpointStatus(
            endpoint=answers[0].Endpoint,
            cluster_id=status.header.cluster_id,
            member_id=status.header.member_id,
            version=status.version,
            revision=status.header.revision,
            leader=status.leader,
            raft_term=status.raftTerm,
            raft_applied_index=status.raftAppliedIndex,
            db_size_bytes=status.dbSize,
            is_learner=status.isLearner,
            errors=tuple(" ".join(error.split()) for error in status.errors),  # 3.7 varies the blanks, on purpose
        )

    def members(self) -> Sequence[Member]:
        """The member list; linearizable from 3.5 on, the local member's own view in 3.4."""
        answer = self._json(["member", "list"], _Members)
        return [Member(row.ID, row.name, row.peerURLs, row.clientURLs, row.isLearner) for row in answer.members]

    def alarms(self) -> Sequence[Alarm]:
        """The active alarms."""
        answer = self._json(["alarm", "list"], _Alarms)
        return [Alarm(row.memberID, AlarmKind(row.alarm)) for row in answer.alarms if row.alarm in set(AlarmKind)]

    def linearizable_revision(self, endpoint: str | None = None, *, member_id: int = 0) -> int:
        """The revision that a linearizable read through the endpoint reports.

        Raises EtcdAnswerInvalid when `member_id` is given and another member answers.
        """
        answer: _Range = self._json(["get", READ_PROBE_KEY, "--keys-only", "--consistency=l"], _Range, endpoint)
        if member_id and answer.header.member_id != member_id:
            raise EtcdAnswerInvalid(
                f"{endpoint or self.endpoint} answers as member {hex_id(answer.header.member_id)}, "
                f"not as {hex_id(member_id)}",
                hint="correct the client URLs that this member advertises: `etcdctl member list`",
            )
        return answer.header.revision

    def count_keys(self, revision: int) -> int | None:
        """How many keys live at a revision; None where it is compacted."""
        # Not by --count-only: 3.4 has no such flag. The count is that of the whole range, whatever the limit.
        arguments = ["get", "", "--prefix", "--keys-only", "--limit=1", f"--rev={max(revision, 1)}"]
        try:
            answer: _Range = self._json(arguments, _Range)
        except EtcdError as error:
            if COMPACTED in error.message:
                return None
            raise
        return answer.count

    def hash_kv(self, revision: int, *, timeout_s: float) -> HashKV | None:
        """The member's HashKV at a revision; None where it is compacted.

        The member's writes wait for its whole scan, which it ends whether or not this call does.
        """
        arguments = ["endpoint", "hashkv", f"--rev={max(revision, 1)}"]  # 0 would mean the newest
        try:
            completed = self._run([*arguments, "-w", "json"], timeout_s=timeout_s)
        except EtcdError as error:
            if COMPACTED in error.message:
                return None
            raise
        return the_one(decode(completed.stdout, list[EndpointHashKV], " ".join(arguments)), self.endpoint)

    def save_snapshot(self, path: Path, *, timeout_s: float, on_bytes: Callable[[int], None]) -> None:
        """Writes the local member's snapshot to `path` by way of `path.part`, which is gone when this raises.

        etcdctl waits for ever without --command-timeout, which bounds the whole transfer.
        """
        part = path.with_name(path.name + ".part")

        def report() -> None:
            try:
                size_bytes = part.stat().st_size
            except FileNotFoundError:  # not there yet, or no more
                return
            on_bytes(size_bytes)

        try:
            self._run(["snapshot", "save", str(path)], timeout_s=timeout_s, on_tick=report, variables=COLLECT_LESS)
        except BaseException:
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise

    def version(self) -> str:
        """The version of etcdctl itself, such as 3.5.16."""
        completed = process.run([self._program, "version"], timeout_s=GRACE_S)
        version = tool_version(completed.stdout)
        if version is None:
            raise EtcdAnswerInvalid(f"`etcdctl version` printed {completed.stdout[:100]!r}")
        return version

    @property
    def _program(self) -> str:
        return self._find("etcdctl")

    def _json(self, arguments: Sequence[str], kind: Any, endpoint: str | None = None, *, stdin: str = "") -> Any:
        argv = [*arguments, "-w", "json"]
        completed = self._run(argv, timeout_s=self._config.call_timeout_s, endpoint=endpoint, stdin=stdin)
        return decode(completed.stdout, kind, " ".join(arguments))

    def _run(
        self,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        endpoint: str | None = None,
        on_tick: Callable[[], None] | None = None,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> process.Completed:
        target = endpoint or self.endpoint
        flags = [
            "--endpoints",
            target,
            "--dial-timeout",
            f"{DIAL_TIMEOUT_S}s",
            "--command-timeout",
            f"{timeout_s:.0f}s",
        ]
        for flag, value in (
            ("--cacert", self._config.ca_cert),
            ("--cert", self._config.cert),
            ("--key", self._config.key),
        ):
            flags += [flag, value] if value else []
        argv = [self._program, *flags, *arguments]
        completed = process.run(
            argv, timeout_s=timeout_s + GRACE_S, on_tick=on_tick, variables=variables, stdin=stdin
        )  # fmt: skip
        if completed.returncode != 0:
            raise classify(" ".join(arguments[:2]), target, completed.returncode, completed.stderr)
        return completed


def decode(text: str, kind: Any, what: str) -> Any:
    """etcdctl's JSON as a typed value. Raises EtcdAnswerInvalid."""
    try:
        return msgspec.json.decode(text.encode("utf-8", "surrogateescape"), type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EtcdAnswerInvalid(
            f"`etcdctl {what}` printed something unexpected: {error}: {text[:120]!r}",
            hint="is etcdctl's version 3.4 to 3.7? see `etcdctl version`",
        ) from None
