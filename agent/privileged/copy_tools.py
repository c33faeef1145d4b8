"""The verb `copy-tools`: etcdctl and etcdutl out of the root folder of the running etcd, pinned by their checksums.

Nothing that is copied is ever run here: the agent does that, as its own user.
"""

import hashlib
import logging
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agent import trace
from agent.adapters import files, proc
from agent.adapters.held_folder import HeldFolder, explained, temporary_name
from agent.config import EtcdConfig
from agent.domain import etcd_process, etcd_tools
from agent.domain.etcd_process import Seen
from agent.domain.etcd_tools import MOST_TOOL_BYTES, NEEDED, PIN_FILE, TOOL_NAMES, Pin, PinnedTool
from agent.domain.request import format_moment
from agent.errors import (
    BadInput,
    EtcdProcessUnclear,
    EtcdToolsMissing,
    FileUnusable,
    RootServiceFailed,
    ToolsAltered,
)
from agent.logs import emit
from agent.privileged.program_copy import copy_program

INSTALL = "install etcdctl, and from etcd 3.5 on etcdutl, of etcd's version, or set etcd.tools_dir"
log = logging.getLogger(__name__)


def copy_tools(etcd: EtcdConfig, tools: HeldFolder) -> dict[str, Any]:
    """Copies the tools and pins the copy; says `already` when the pinned one has the same bytes.

    Raises EtcdProcessUnclear, EtcdToolsMissing, NoSpace, RootServiceFailed.
    """
    tools.require_own()
    _sweep(tools)
    seen, inodes, database = _find(etcd)
    with _pinned(seen.pid) as process:
        again = process.look(inodes, database)  # now that the number can not become another process's
        if again is None or not (again.owns_socket and again.has_data):
            raise RootServiceFailed(f"{seen} changed while it was looked at", hint="is etcd restarting? try again")
        emit(log, logging.INFO, "etcd.found", f"{seen} is the etcd that is meant: {process.exe}",
             source_pid=seen.pid, source_exe=process.exe)  # fmt: skip
        former = _former(tools)
        pin, already = _copied(process, seen, tools, former)
    if not already:
        tools.write_atomic(PIN_FILE, msgspec.json.encode(pin) + b"\n")
        _drop_old(tools, {pin.folder, former.folder if former else pin.folder})
    for tool in pin.tools:
        emit(log, logging.INFO, "tools.pinned", f"{tool.name} of {seen}, sha256 {tool.sha256}",
             tool=tool.name, sha256=tool.sha256, size_bytes=tool.size_bytes, source=tool.source)  # fmt: skip
    return {"already": already, "pin": msgspec.to_builtins(pin)}


def _find(etcd: EtcdConfig) -> tuple[Seen, frozenset[int], os.stat_result]:
    """The one process that is meant, with the sockets and the database that it was known by."""
    if len(etcd.endpoints) != 1:
        raise BadInput(f"etcd.endpoints names {len(etcd.endpoints)} endpoints", hint="name the local member's alone")
    endpoint, database = etcd.endpoints[0], Path(etcd.data_dir) / "member/snap/db"
    try:
        status = database.stat()
    except OSError as error:
        raise EtcdProcessUnclear(
            f"[data-dir-missing] {database} can not be seen: {error.strerror}", reason="data-dir-missing",
            hint="is etcd.data_dir in /etc/etcd-agent/config.toml etcd's data folder, and has etcd been started once?",
        ) from None  # fmt: skip
    try:
        inodes = proc.served(endpoint)
    except ValueError as error:
        raise EtcdProcessUnclear(
            f"[endpoint-not-local] {endpoint}: {error}", reason="endpoint-not-local", hint=etcd_process.HINT
        ) from None
    seen = proc.survey(inodes, status)
    chosen = etcd_process.choose(seen, endpoint, os.fspath(database), is_served=bool(inodes))
    return chosen, inodes, status


def _pinned(pid: int) -> proc.Pinned:
    try:
        return proc.Pinned(pid)
    except OSError as error:
        raise RootServiceFailed(
            f"pid {pid}, which was the etcd, can not be held: {error.strerror}", hint="is etcd restarting? try again"
        ) from None


def _copied(process: proc.Pinned, seen: Seen, tools: HeldFolder, former: Pin | None) -> tuple[Pin, bool]:
    """The pin of a complete new folder, or the former one when that has the same bytes."""
    building = temporary_name("copy")
    try:
        with tools.make_folder(building) as folder:
            made = _copy_all(process, seen, folder)
            folder.sync()
        if not process.is_there:
            raise RootServiceFailed(f"{seen} ended while its tools were copied", hint="is etcd restarting? try again")
        if former and _bytes_of(former.tools) == _bytes_of(made) and _is_whole(tools, former):
            tools.remove(building)
            return former, True
        name = f"{made[0].sha256[:12]}-{secrets.token_hex(4)}"
        tools.rename(building, name)
    except BaseException:
        tools.remove(building)
        raise
    tools.sync()
    copied_at = format_moment(datetime.now(UTC))
    return Pin(name, made, seen.pid, process.exe, copied_at, trace.current_trace_id()), False


def _copy_all(process: proc.Pinned, seen: Seen, folder: HeldFolder) -> tuple[PinnedTool, ...]:
    made, problems = [], []
    for name in TOOL_NAMES:
        for path in etcd_tools.search_folders(process.path_variable, process.exe):
            try:
                made.append(copy_program(process.root, f"{path}/{name}", name, folder))
                break
            except FileNotFoundError:
                continue
            except ValueError as error:
                problems.append(f"{path}/{name} {error}")
    if not made or made[0].name != NEEDED:
        raise _missing(process, seen, problems)
    for problem in problems:
        emit(log, logging.WARNING, "tools.passed_over", f"{seen}: {problem}")
    return tuple(made)


def _missing(process: proc.Pinned, seen: Seen, problems: list[str]) -> EtcdToolsMissing:
    looked = ", ".join(etcd_tools.search_folders(process.path_variable, process.exe))
    told = f"; {'; '.join(problems)}" if problems else ""
    if seen.name.startswith("k3s"):
        return EtcdToolsMissing(
            f"{seen} has etcd built in and comes without etcdctl: nothing to copy in {looked}{told}",
            hint=f"{INSTALL}; the release notes of what `k3s --version` prints name etcd's version",
        )
    return EtcdToolsMissing(f"{seen} comes without etcdctl: there is none in {looked}{told}", hint=INSTALL)


def _former(tools: HeldFolder) -> Pin | None:
    try:
        content = tools.read(PIN_FILE, owner=os.geteuid(), most_bytes=etcd_tools.MOST_PIN_BYTES)
        return etcd_tools.decode_pin(content)
    except (FileNotFoundError, BadInput, ToolsAltered):
        return None  # none, or a damaged one that is replaced


def _is_whole(tools: HeldFolder, pin: Pin) -> bool:
    """Whether the pinned copy still has its bytes."""
    try:
        with tools.child(pin.folder) as folder:
            return all(
                hashlib.sha256(folder.read(tool.name, owner=os.geteuid(), most_bytes=MOST_TOOL_BYTES)).hexdigest()
                == tool.sha256
                for tool in pin.tools
            )
    except (OSError, BadInput, FileUnusable):
        return False


def _bytes_of(pinned: tuple[PinnedTool, ...]) -> list[tuple[str, str]]:
    return [(tool.name, tool.sha256) for tool in pinned]


def _sweep(tools: HeldFolder) -> None:
    """Removes what a killed run left unfinished; this run holds the lock, so nobody works on it."""
    for name in tools.names():
        if files.is_temporary(name):
            with explained(f"{tools.told}/{name}"):
                tools.remove(name)


def _drop_old(tools: HeldFolder, kept: set[str]) -> None:
    """Removes older copies. The former one stays until the next: a worker may be about to start it."""
    for name in tools.names():
        if name != PIN_FILE and name not in kept:
            with explained(f"{tools.told}/{name}"):
                tools.remove(name)
