"""`trace ID`: a timeline out of any number of JSON log files."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from agent import logs
from agent import trace as trace_ids
from agent.cli import timeline_view
from agent.cli.reading import SUDO
from agent.domain import timeline
from agent.errors import AgentError, BadInput
from agent.node import load_node

MOST_LINE_BYTES = 4 * 1024 * 1024
STANDARD_INPUT = "-"


@dataclass
class Read:
    """What was read: the lines of the trace, each once, and how many lines were none of a log."""

    trace_id: str
    lines: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    skipped: int = 0

    def take(self, stream: BinaryIO, name: str) -> None:
        """Reads a file to its end; what is no JSON object is counted and left out."""
        self.files.append(name)
        wanted = self.trace_id.encode()
        for raw in iter(lambda: stream.readline(MOST_LINE_BYTES), b""):
            text = raw.strip()
            text = text[max(text.find(b"{"), 0) :]  # journalctl and `aws logs tail` put time and host before it
            if wanted in text.lower():
                fields = _decoded(text)
                if fields is None:
                    self.skipped += 1
                else:
                    self.lines[text] = fields
            elif text and not (text.startswith(b"{") and text.endswith(b"}")):
                self.skipped += 1


@click.command()
@click.argument("trace_id", metavar="ID")
@click.argument("files", nargs=-1, metavar="[FILES]...")
@click.option("--json", "as_json", is_flag=True, help="Print the tree as one JSON document.")
@click.pass_obj
def trace(flags: tuple[str, ...], trace_id: str, files: tuple[str, ...], as_json: bool) -> None:
    """The timeline of trace ID, out of log files.

    FILES (- is standard input), else this node's log file and its rotated ones. They hold JSON lines of any agent
    or Lambda, as they are or as `journalctl` and `aws logs tail` print them. ID is 32 or 16 hex digits, a UUID, an
    X-Ray root or a traceparent.
    """
    inherited = trace_ids.parse_inherited(trace_id)
    if inherited is None:
        raise BadInput(
            f"{trace_ids.printable_excerpt(trace_id)!r} is no trace id",
            hint="give 32 or 16 hex digits, a UUID, an X-Ray root or a traceparent; `etcd-agent ops list` shows some",
        )
    read = Read(inherited.trace_id)
    for name in files or _own_files(flags):
        _take(read, name)
    if not read.lines:
        raise _nothing(read)
    found = timeline.build(read.trace_id, read.lines.values())
    if as_json:
        timeline_view.print_document(found, read.files, read.skipped)
        return
    timeline_view.print_tree(found, read.files, read.skipped)


def _own_files(flags: tuple[str, ...]) -> Iterator[str]:
    """The live file first: a line that a rotation moves meanwhile is then read twice rather than never."""
    path = Path(load_node(flags).config.log.path)
    rotated = (logs.numbered(path, number) for number in range(1, logs.ROTATED_FILES_KEPT + 1))
    existing = [str(one) for one in (path, *rotated) if one.exists()]
    if not existing:
        raise AgentError(
            f"{path} does not exist", hint="name the log files: `etcd-agent trace ID FILE…`, or start the agent"
        )
    yield from existing


def _take(read: Read, name: str) -> None:
    if name == STANDARD_INPUT:
        read.take(sys.stdin.buffer, "standard input")
        return
    try:
        with Path(name).open("rb") as stream:
            read.take(stream, name)
    except PermissionError:
        raise AgentError(f"{name} can not be read by this user", hint=SUDO) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{name} can not be read: {reason}", hint="FILES are log files of JSON lines") from None


def _decoded(text: bytes) -> Mapping[str, Any] | None:
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _nothing(read: Read) -> AgentError:
    skipped = f"; {read.skipped} lines there are no JSON" if read.skipped else ""
    return AgentError(
        f"no line of trace {read.trace_id} in {', '.join(read.files)}{skipped}",
        hint="each node and each Lambda has its own log: name their files, or search the id in CloudWatch Logs",
    )
