"""What etcd's tools printed, recorded by version, and the class that each recorded failure has to get.

`samples/<version>/` was made by real clusters of exactly that version, those from 3.6 on by
`python -m tests.etcd_versions.record_outputs`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.adapters import etcdutl
from agent.adapters.process import Completed
from agent.domain.etcd_failure import classify
from agent.errors import (
    AgentError,
    BadInput,
    CommandMissing,
    CommandTimeout,
    EtcdAlreadyDone,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    SnapshotInvalid,
)

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = ["3.4.23", "3.5.16", "3.5.30", "3.6.16", "3.7.3"]
FLAGS_WITH_VALUE = {"--endpoints", "--cacert", "--cert", "--key", "--dial-timeout", "--command-timeout", "-w"}

HARD_STOP, RETRYABLE, UNKNOWN, DONE, BAD = EtcdError, EtcdUnavailable, EtcdOutcomeUnknown, EtcdAlreadyDone, BadInput
DAMAGED, NEVER_ENDS, MISSING = SnapshotInvalid, CommandTimeout, CommandMissing
Class = type[AgentError] | None
# None is a call that ends well.
CLASSES: dict[str, Class] = {
    "move-leader-from-follower": BAD,
    "move-leader-all-endpoints": None,
    "snapshot-save-multi-endpoint": HARD_STOP,
    "snapshot-save-noperm-dir": HARD_STOP,
    "snapshot-save-dialtimeout": NEVER_ENDS,
    "promote-not-started-learner": RETRYABLE,
    "add-second-learner": HARD_STOP,
    "add-existing-peer-url": DONE,
    "promote-already-voter": DONE,
    "promote-unknown-id": HARD_STOP,
    "removed-member-endpoint-status": RETRYABLE,
    "remove-unknown-id": DONE,
    "remove-already-removed": DONE,
    "remove-bad-id": BAD,
    "no-endpoint-status": RETRYABLE,
    "no-endpoint-health": RETRYABLE,
    "no-endpoint-member-list": RETRYABLE,
    "no-endpoint-get": RETRYABLE,
    "tls-no-client-cert": RETRYABLE,  # most versions only say that the connection broke
    "tls-bad-client-cert": RETRYABLE,
    "tls-wrong-ca": HARD_STOP,
    "tls-missing-cert-file": BAD,
    "tls-bad-cert-snapshot": NEVER_ENDS,
    "plain-to-tls-port": RETRYABLE,
    "status-one-down": RETRYABLE,
    "health-one-down": RETRYABLE,
    "hashkv-one-down": RETRYABLE,
    "remove-healthy-would-lose-quorum": RETRYABLE,
    "add-voter-while-one-down": RETRYABLE,
    "move-leader-to-dead": UNKNOWN,
    "quorum-lost-put": UNKNOWN,
    "quorum-lost-get": UNKNOWN,
    "quorum-lost-get_serializable": None,
    "quorum-lost-status": None,
    "quorum-lost-health": RETRYABLE,
    "quorum-lost-memberlist": UNKNOWN,
    "quorum-lost-hashkv": None,
    "quorum-lost-remove": UNKNOWN,
    "quorum-lost-alarmlist": UNKNOWN,
    "quorum-lost-defrag": None,
    "quorum-lost-snapshot-save": None,
    "nospace-put": HARD_STOP,
    "nospace-status": None,
    "nospace-health": RETRYABLE,
    "nospace-get": None,
    "nospace-snapshot": None,
    "nospace-member-add": None,
    "etcdctl-status-cor": DAMAGED,
    "etcdctl-restore-cor": HARD_STOP,
    "etcdctl-status-trunc": DAMAGED,
    "etcdctl-restore-trunc": HARD_STOP,
    "etcdutl-status-cor": DAMAGED,
    "etcdutl-restore-cor": HARD_STOP,
    "etcdutl-status-trunc": DAMAGED,
    "etcdutl-restore-trunc": HARD_STOP,
    "restore-ok-etcdctl": None,
    "restore-existing-dir": HARD_STOP,
}
DIFFERENCES: dict[tuple[str, str], Class] = {
    ("3.4.23", "no-endpoint-member-list"): UNKNOWN,  # 3.4 does not say that the connection was refused
    ("3.4.23", "no-endpoint-get"): UNKNOWN,
    ("3.4.23", "quorum-lost-memberlist"): None,  # the list is the member's own there
    ("3.4.23", "nospace-health"): None,  # alarms count from 3.5 on
    ("3.4.23", "etcdctl-status-cor"): None,  # which byte is altered decides: the trailer is what finds it
    ("3.5.30", "etcdctl-status-cor"): None,
    ("3.5.30", "etcdutl-status-cor"): None,
    ("3.4.23", "etcdutl-status-cor"): MISSING,
    ("3.4.23", "etcdutl-restore-cor"): MISSING,
    ("3.4.23", "etcdutl-status-trunc"): MISSING,
    ("3.4.23", "etcdutl-restore-trunc"): MISSING,
    ("3.5.16", "tls-no-client-cert"): HARD_STOP,
    ("3.5.30", "tls-bad-client-cert"): HARD_STOP,
    ("3.6.16", "tls-no-client-cert"): HARD_STOP,
    ("3.6.16", "tls-bad-client-cert"): HARD_STOP,
    **{
        (version, name): kind
        for version in ("3.6.16", "3.7.3")  # etcdctl reads and restores no snapshots any more
        for name, kind in (
            ("etcdctl-status-cor", MISSING), ("etcdctl-status-trunc", MISSING), ("restore-ok-etcdctl", HARD_STOP),
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One recorded call. `returncode` is None where it never ended, or where the program was not there."""

    version: str
    name: str
    command: str
    returncode: int | None
    stdout: str
    stderr: str

    @property
    def what(self) -> str:
        """The call's own words, as the adapter names it."""
        words = iter(self.command.split()[1:])
        plain = [word for word in words if not (word in FLAGS_WITH_VALUE and next(words))]
        return " ".join(plain[:1] if plain[0] == "move-leader" else plain[:2])

    @property
    def program(self) -> str:
        return self.command.split()[0]

    @property
    def wanted(self) -> Class:
        """What it has to become."""
        return DIFFERENCES.get((self.version, self.name), CLASSES[self.name])


def cases() -> Iterator[Case]:
    """Every recorded call of every version."""
    for version in VERSIONS:
        for line in (SAMPLES / version / "failures.jsonl").read_text().splitlines():
            row = json.loads(line)
            returncode = row["rc"] if isinstance(row["rc"], int) else None
            yield Case(version, row["name"], row["cmd"], returncode, row["stdout"], row["stderr"])


def case_of(version: str, name: str) -> Case:
    """One of them."""
    return next(case for case in cases() if (case.version, case.name) == (version, name))


def answer(version: str, name: str) -> str:
    """What a call that ended well printed, such as `member-list`."""
    return (SAMPLES / version / f"{name}.json").read_text()


def outcome_of(case: Case) -> AgentError | None:
    """The error that the adapters make of a call that ended; None where it ended well."""
    assert case.returncode is not None
    if "-status-" in case.name and case.name.startswith(case.program):  # of a snapshot file
        try:
            etcdutl.read_status(case.program, Completed((), case.returncode, case.stdout, case.stderr))
        except AgentError as error:
            return error
        return None
    return classify(case.what, "http://node:2379", case.returncode, case.stderr) if case.returncode else None
