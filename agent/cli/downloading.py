"""`snapshot download`: out of the store into a file, which has its name only when all of it is right."""

import contextlib
import errno
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from agent import bootstrap_ports
from agent.adapters import files
from agent.cli import tables
from agent.cli.waiting import OnProgress
from agent.domain.snapshot import Backup
from agent.domain.soundness import why_not_good
from agent.errors import (
    AgentError,
    BadInput,
    CommandMissing,
    FileUnusable,
    NoSpace,
    SnapshotInvalid,
    SnapshotNotFound,
    of_the_node,
)
from agent.node import Node
from agent.operations import catalogue, retrieval
from agent.ports import SnapshotTool, Store

WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
STOPPING = (signal.SIGTERM, signal.SIGHUP)
NEW_FOLDER = "NEW-DATA-FOLDER"


def download(
    node: Node, wanted: str, target: Path, *, with_structure: bool, on_progress: OnProgress
) -> dict[str, Any]:  # fmt: skip
    """Puts the raw snapshot under `target`, where nothing may be. Returns the document of `--json`.

    Works on any machine that has the configuration of the store. Raises BadInput, CommandMissing, SnapshotNotFound,
    SnapshotInvalid, NoSpace, and the store's errors; `target` is not there then.
    """
    _require_free_name(target)
    tool = bootstrap_ports.make_snapshot_tool(node) if with_structure else None
    read_by = _describe(tool)
    store = bootstrap_ports.make_store(node)
    backup = catalogue.resolve(store, node.config.cluster, wanted)
    manifest = backup.manifest
    files.require_free(target.parent, manifest.raw_size_bytes)

    def on_bytes(count: int) -> None:
        total_bytes = manifest.raw_size_bytes
        on_progress(
            {"step": "download", "bytes": count, "total_bytes": total_bytes, "percent": 100 * count // total_bytes}
        )

    with _signals_raise():
        save(store, tool, backup, target, on_bytes)
    return {
        "snapshot_id": manifest.snapshot_id, "path": str(target), "size_bytes": manifest.raw_size_bytes,
        "sha256": manifest.raw_sha256, "revision": manifest.revision,
        "checks": {"sha256": "passed", "trailer": "passed", "structure": "passed" if tool else "skipped"},
        "structure_by": read_by, "good": backup.is_good, "why_not_good": why_not_good(backup),
        "store": store.describe(), "next": _restore_command(manifest.etcd_version, target),
    }  # fmt: skip


def save(
    store: Store, tool: SnapshotTool | None, backup: Backup, target: Path, on_bytes: Callable[[int], None]
) -> None:  # fmt: skip
    """Writes beside the target, verifying on the way, and links it under its name. Raises what `download` does."""
    with _told_of(backup, target), files.unfinished_beside(target) as part:
        with part.open("wb") as stream:
            for chunk in retrieval.raw_chunks(store, backup.manifest):
                stream.write(chunk)
                on_bytes(stream.tell())
            stream.flush()
            os.fsync(stream.fileno())
        if tool is not None:
            retrieval.check_structure(tool, backup.manifest, part)
        _publish(part, target)


def _publish(part: Path, target: Path) -> None:
    """Gives the file its name. Raises BadInput when that was taken meanwhile."""
    try:
        if not files.move_without_overwrite(part, target):
            raise _taken(target)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        _rename_over_own(part, target)


def _rename_over_own(part: Path, target: Path) -> None:
    """Where there are no hard links, as on FAT: takes the name with an empty file, which nobody else can then take."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise _taken(target) from None
    try:
        part.rename(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    files.sync_folder(target.parent)


def print_download(document: Mapping[str, Any]) -> None:
    """What the command ends with, for people."""
    screen = tables.console()
    by = document["structure_by"]
    good = "yes" if document["good"] else f"no: {'; '.join(document['why_not_good'])}"
    screen.print(
        tables.pairs(
            [
                ("snapshot", document["snapshot_id"]),
                ("file", document["path"]),
                ("size", f"{tables.size(document['size_bytes'])} ({document['size_bytes']:,} bytes)"),
                ("revision", f"{document['revision']:,}"),
                ("verified", f"sha256, trailer, {f'structure by {by}' if by else 'the structure was not checked'}"),
                ("good", tables.plain(good, "green" if document["good"] else "bold red")),
                ("next", document["next"]),
            ]
        )
    )


def _require_free_name(target: Path) -> None:
    """Raises BadInput, FileUnusable, before anything is read."""
    folder = target.parent
    try:
        if target.is_dir():
            raise BadInput(f"{target} is a folder", hint=f"name a file in it, such as {target}/snapshot.db")
        if os.path.lexists(target):
            raise _taken(target)
    except OSError as error:  # such as a name that is too long
        raise _of_the_target(error, target) from error
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder", hint="make it first, or name another target")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileUnusable(f"{folder} can not be written by this user", hint="name another target, or use sudo")


def _taken(target: Path) -> BadInput:
    return BadInput(f"{target} is there already, and nothing is overwritten", hint="name another file")


def _describe(tool: SnapshotTool | None) -> str:
    """Looks for the tool before anything is read. Raises CommandMissing with the way to go on without."""
    if tool is None:
        return ""
    try:
        return tool.describe()
    except CommandMissing as error:
        raise CommandMissing(
            f"the structure can not be checked: {error.message}",
            hint="install etcdutl, or set etcd.tools_dir; or give --without-structure: that the bytes are those that "
            "passed this check when they were taken is proven in any case",
        ) from error


@contextlib.contextmanager
def _told_of(backup: Backup, target: Path) -> Iterator[None]:
    """What went wrong in the words of this command."""
    identifier = backup.manifest.snapshot_id
    others = "nothing was kept; `etcd-agent snapshot list` shows the others"
    try:
        yield
    except SnapshotInvalid as error:
        hint = f"{others}; `etcd-agent snapshot verify {identifier}` puts it on record"
        raise SnapshotInvalid(f"{identifier} is damaged: {error.message}", hint=hint) from error
    except SnapshotNotFound as error:
        raise SnapshotNotFound(f"the data of {identifier} are gone: {error.message}", hint=others) from error
    except OSError as error:
        error.filename = error.filename or str(target)
        raise _of_the_target(error, target) from error


def _of_the_target(error: OSError, target: Path) -> AgentError:
    known = of_the_node(error)
    if isinstance(known, NoSpace):
        return NoSpace(f"{target.parent}: {error.strerror}", hint="make room there, or name another target")
    return FileUnusable(f"{target}: {error.strerror}", hint="is that disk sound, and writable by this user?")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """TERM and HUP end the command as Ctrl-C does, so that what was written is removed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _restore_command(etcd_version: str, target: Path) -> str:
    """For a Kubernetes control plane, whose watchers must see no revision twice."""
    program = "etcdctl" if etcd_version.startswith("3.4.") else "etcdutl"
    return (
        f"{program} snapshot restore {shlex.quote(str(target))} --data-dir {NEW_FOLDER} "
        "--bump-revision 1000000000 --mark-compacted"
    )
