"""Finding etcdctl and etcdutl: `etcd.tools_dir`, else PATH, else the copy out of the running etcd, which root makes."""

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.adapters import process
from agent.domain import etcd_tools
from agent.domain.etcd_tools import NEEDED, PIN_FILE, Pin
from agent.errors import AgentError, CommandMissing, EtcdAnswerInvalid, RootServiceFailed, ToolsAltered
from agent.logs import emit

VERSION_TIMEOUT_S = 10.0
Source = Literal["configured", "path", "copied"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToolsSeen:
    """Where the tools are, their version, and for copied ones the program of the process that they came from."""

    source: Source
    folder: str
    version: str
    copied_from: str = ""
    copied_at: str = ""


class EtcdTools:
    """The tools of one node. `ask` has them copied into `copies`, a folder of root's.

    What can not be had is remembered: a command that looks for several programs asks, and waits, once.
    """

    def __init__(self, tools_dir: str, copies: Path, ask: Callable[[], object]) -> None:
        self._tools_dir, self._copies, self._ask = tools_dir, copies, ask
        self._verified: dict[str, str] = {}
        self._failure: AgentError | None = None

    @property
    def are_copied(self) -> bool:
        """Whether they are neither configured nor on PATH. Both tools are taken from where etcdctl is."""
        return self._source == "copied"

    def find(self, name: str) -> str:
        """The path of a tool. Raises CommandMissing, ToolsAltered, and what keeps root from copying it."""
        if not self.are_copied:
            return process.find(name, self._tools_dir)
        if name not in self._verified:
            self._verified[name] = self._verified_copy(name)
        return self._verified[name]

    def version(self) -> str:
        """What etcdctl says its version is. Raises as `find` does, EtcdAnswerInvalid."""
        program = self.find(NEEDED)
        completed = process.run([program, "version"], timeout_s=VERSION_TIMEOUT_S)
        version = etcd_tools.tool_version(completed.stdout)
        if completed.returncode != 0 or version is None:
            raise EtcdAnswerInvalid(
                f"`{program} version` ended with {completed.returncode} and printed {completed.stdout[:100]!r}",
                hint="does it run here? libraries that only its container has are not copied: install etcdctl instead",
            )
        return version

    def refresh(self) -> None:
        """Has the tools copied again. Raises what stands against it."""
        self._failure = None
        self._verified.clear()
        self._ask()

    def describe(self) -> ToolsSeen:
        """Where they are and which version they have. Raises as `version` does."""
        version = self.version()
        folder = str(Path(self.find(NEEDED)).parent)
        pin = self._pin() if self.are_copied else None
        return ToolsSeen(self._source, folder, version, pin.source_exe if pin else "", pin.copied_at if pin else "")

    @property
    def _source(self) -> Source:
        if self._tools_dir:
            return "configured"
        return "path" if shutil.which(NEEDED) else "copied"

    def _verified_copy(self, name: str) -> str:
        if self._failure is not None:
            raise self._failure
        try:
            pin = self._pin() or self._asked()
        except AgentError as error:
            self._failure = error
            raise
        tool = pin.tool(name)
        if tool is None:
            raise CommandMissing(f"{name} is not among the tools of {pin.source_exe}", hint="etcd 3.4 comes without it")
        path = self._copies / pin.folder / name
        self._require_bytes(path, tool.sha256)
        emit(log, logging.DEBUG, "tools.verified", f"{path} has the pinned bytes", tool=name, sha256=tool.sha256)
        return str(path)

    def _asked(self) -> Pin:
        self._ask()
        pin = self._pin()
        if pin is None:
            raise RootServiceFailed(f"the root service copied the etcd tools, but {self._copies} has no {PIN_FILE}")
        return pin

    def _pin(self) -> Pin | None:
        with contextlib.suppress(FileNotFoundError):
            return etcd_tools.decode_pin((self._copies / PIN_FILE).read_bytes())
        return None

    def _require_bytes(self, path: Path, sha256: str) -> None:
        hint = f"find out who changed it; then remove {self._copies / PIN_FILE}: the next operation has it copied anew"
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise ToolsAltered(f"{path} is pinned, but is not there", hint=hint) from None
        if found != sha256:
            raise ToolsAltered(f"{path} has the SHA-256 {found}, but {sha256} was pinned: it is not run", hint=hint)
