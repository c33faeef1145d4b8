"""Reading snapshot files: by etcdutl, or by etcdctl where it still can (3.4 has no etcdutl, 3.6 only that)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent.adapters import process
from agent.domain.hash_kv import HashKV
from agent.errors import CommandKilled, CommandMissing, EtcdAnswerInvalid, SnapshotInvalid
from agent.ports import SnapshotFile

STATUS_TIMEOUT_S = 600.0
HASH_TIMEOUT_S = 600.0
VERSION_TIMEOUT_S = 10.0
OUT_OF_MEMORY = ("runtime: out of memory", "cannot allocate memory")
STDERR_TAIL_CHARACTERS = 1500
HELP_OF_ETCDCTL = "etcdctl snapshot save"  # an example in it
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Status(msgspec.Struct):
    hash: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    revision: Count
    totalKey: Count  # noqa: N815 - the tool's own spelling
    totalSize: Count  # noqa: N815


class _FileHash(msgspec.Struct):
    hash: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    hashRevision: Count  # noqa: N815
    compactRevision: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]  # noqa: N815


class SnapshotStatus:
    """`snapshot status` of the tool that fits. Raises CommandMissing when neither is there."""

    def __init__(self, tools_dir: str, find: Callable[[str], str] | None = None) -> None:
        self._find = find or (lambda name: process.find(name, tools_dir))

    def describe(self) -> str:
        """Name and version, such as `etcdutl 3.5.16`."""
        program = self._program()
        completed = process.run([program, "version"], timeout_s=VERSION_TIMEOUT_S)
        match = re.search(r"version:\s*([0-9][^\s]*)", completed.stdout)
        return f"{Path(program).name} {match[1] if match else 'of unknown version'}"

    def status(self, path: Path) -> SnapshotFile:
        """Walks the file's pages and hashes its keys. Raises SnapshotInvalid when the tool finds it damaged."""
        program = self._program()
        completed = process.run([program, "snapshot", "status", str(path), "-w", "json"], timeout_s=STATUS_TIMEOUT_S)
        return read_status(Path(program).name, completed)

    def hash_kv(self, path: Path, revision: int) -> HashKV:
        """HashKV of a snapshot file at a revision, by `etcdutl hashkv`, which 3.6 and later have.

        It opens the file to write: so only ever of a copy. Raises SnapshotInvalid, CommandKilled, CommandMissing.
        """
        argv = [self._find("etcdutl"), "hashkv", str(path), f"--rev={max(revision, 1)}", "-w", "json"]
        return read_hash(process.run(argv, timeout_s=HASH_TIMEOUT_S))

    def _program(self) -> str:
        try:
            return self._find("etcdutl")
        except CommandMissing:
            return self._find("etcdctl")


def read_status(name: str, completed: process.Completed) -> SnapshotFile:
    """What the tool found. A snapshot is damaged only where the tool says so, not where the tool itself failed.

    Raises SnapshotInvalid, CommandKilled, EtcdAnswerInvalid, CommandMissing.
    """
    what = f"`{name} snapshot status`"
    if name == "etcdctl" and HELP_OF_ETCDCTL in completed.stdout:  # its exit code is 0
        raise CommandMissing(
            "etcdutl is missing: this etcdctl can not read snapshot files, from 3.6 on only etcdutl does",
            hint="put etcdutl beside etcdctl, or set etcd.tools_dir to a folder that has both",
        )
    status: _Status = _decode(what, completed, _Status)
    return SnapshotFile(status.hash, status.revision, status.totalKey, status.totalSize)


def read_hash(completed: process.Completed) -> HashKV:
    """The hash that etcdutl printed. Raises as `read_status` does."""
    found: _FileHash = _decode("`etcdutl hashkv`", completed, _FileHash)
    return HashKV(found.hash, found.compactRevision, found.hashRevision)


def _decode(what: str, completed: process.Completed, kind: Any) -> Any:
    if completed.returncode < 0 or any(text in completed.stderr for text in OUT_OF_MEMORY):
        raise CommandKilled(
            f"{what} was killed or had no memory (exit {completed.returncode}): {_first_line(completed.stderr)}",
            returncode=completed.returncode, stderr_tail=completed.stderr[-STDERR_TAIL_CHARACTERS:],
            hint="it needs as much memory as the snapshot is large: look for the OOM killer in `dmesg`",
        )  # fmt: skip
    if completed.returncode != 0:
        raise SnapshotInvalid(
            f"{what} says that the snapshot is damaged (exit {completed.returncode}): {_first_line(completed.stderr)}",
            hint="the member's own file may be damaged: compare `etcdctl endpoint hashkv --cluster`",
        )
    try:
        return msgspec.json.decode(completed.stdout.encode(), type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EtcdAnswerInvalid(
            f"{what} printed something unexpected: {error}: {completed.stdout[:120]!r}",
            hint="is its version 3.4 to 3.7? see `etcdutl version`",
        ) from None


def _first_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Deprecated:")]
    return (lines or ["it printed no reason"])[0][:300]
