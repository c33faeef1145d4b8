"""Reading snapshot files: by etcdutl, or by etcdctl where it still can (3.4 has no etcdutl, 3.6 only that)."""

import re
from pathlib import Path

import msgspec

from agent.adapters import process
from agent.errors import CommandMissing, SnapshotInvalid
from agent.ports import SnapshotFile

STATUS_TIMEOUT_S = 600.0
VERSION_TIMEOUT_S = 10.0


class _Status(msgspec.Struct):
    hash: int
    revision: int
    totalKey: int  # noqa: N815 - the tool's own spelling
    totalSize: int  # noqa: N815


class SnapshotStatus:
    """`snapshot status` of the tool that fits. Raises CommandMissing when neither is there."""

    def __init__(self, tools_dir: str) -> None:
        self._tools_dir = tools_dir

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
        name = Path(program).name
        if completed.returncode != 0:
            raise SnapshotInvalid(
                f"`{name} snapshot status` says that the snapshot is damaged (exit {completed.returncode}): "
                f"{_first_line(completed.stderr)}",
                hint="the member's own file may be damaged: compare `etcdctl endpoint hashkv --cluster`",
            )
        try:
            status = msgspec.json.decode(completed.stdout.encode(), type=_Status)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise SnapshotInvalid(f"`{name} snapshot status` printed {completed.stdout[:100]!r}: {error}") from None
        return SnapshotFile(status.hash, status.revision, status.totalKey, status.totalSize)

    def _program(self) -> str:
        try:
            return process.find("etcdutl", self._tools_dir)
        except CommandMissing:
            return process.find("etcdctl", self._tools_dir)


def _first_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Deprecated:")]
    return (lines or ["it printed no reason"])[0][:300]
