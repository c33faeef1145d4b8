"""etcdctl and etcdutl that were copied out of the running etcd: what is pinned of them, and which version fits."""

import re
from typing import Annotated, Literal

import msgspec

from agent.errors import ToolsAltered

TOOL_NAMES = ("etcdctl", "etcdutl")
NEEDED = "etcdctl"  # 3.4 has no etcdutl
USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
PIN_FILE = "pinned.json"
MOST_PIN_BYTES = 64 * 1024
# The largest of any version so far has 25 MB.
MOST_TOOL_BYTES = 128 * 1024 * 1024
_VERSION = re.compile(r"etcd(?:ctl|utl) version:\s*([0-9][^\s]*)")
_MINOR = re.compile(r"v?([0-9]+)\.([0-9]+)(?:\.|\Z)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class PinnedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One copied program: its checksum, and where it lay in the root folder of the process it came from."""

    name: Literal["etcdctl", "etcdutl"]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    size_bytes: int
    source: str


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The copy that counts: its folder below `tools`, its programs, and the process they came from."""

    folder: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{8,64}\Z")]
    tools: tuple[PinnedTool, ...]
    source_pid: int
    source_exe: str
    copied_at: str
    trace_id: str
    schema: Literal[1] = 1

    def tool(self, name: str) -> PinnedTool | None:
        """The copied program of that name, None where etcd came without it."""
        return next((tool for tool in self.tools if tool.name == name), None)


def decode_pin(content: bytes) -> Pin:
    """Reads the pin. Raises ToolsAltered when it is damaged."""
    try:
        return msgspec.json.decode(content, type=Pin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ToolsAltered(f"{PIN_FILE} of the copied etcd tools is not valid: {error}") from None


def tool_version(printed: str) -> str | None:
    """The version in what `etcdctl version` or `etcdutl version` printed, such as 3.5.16."""
    match = _VERSION.search(printed)
    return match[1] if match else None


def same_minor(one: str, other: str) -> bool:
    """Whether two versions are of one minor, such as 3.5.16 and 3.5.21; unreadable ones are not."""
    first = minor_version(one)
    return first is not None and first == minor_version(other)


def minor_version(version: str) -> tuple[int, int] | None:
    """Major and minor as numbers, such as (3, 5) of 3.5.16; None of what is no version."""
    match = _MINOR.match(version)
    return (int(match[1]), int(match[2])) if match else None


def search_folders(path_variable: str, exe: str) -> list[str]:
    """Where the tools of a process may lie: beside its program, then on its PATH, then the usual places.

    Beside it first, since that one fits its version. Only absolute folders without control characters, each once.
    """
    folders = [exe.rpartition("/")[0] or "/", *path_variable.split(":"), *USUAL_FOLDERS]
    usable = [folder for folder in folders if folder.startswith("/") and not _CONTROL.search(folder)]
    return list(dict.fromkeys(folder.rstrip("/") or "/" for folder in usable))
