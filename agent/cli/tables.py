"""What commands print: one JSON document, or text and tables for people. `rich` is loaded only for people."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Pair: TypeAlias = "tuple[str, str | Text]"
WIDTH_OFF_TERMINAL = 180
STATUS_STYLES = {"succeeded": "green", "done": "green", "passed": "green", "ok": "green", "yes": "green",
                 "failed": "red", "rejected": "red", "problem": "bold red", "no": "red", "damaged": "red",
                 "refused": "yellow", "running": "cyan", "waiting": "cyan", "unfinished": "yellow"}  # fmt: skip


def print_json(document: Mapping[str, Any]) -> None:
    """Prints the one document of `--json`, on one line."""
    click.echo(json.dumps(document))


def console(*, stderr: bool = False) -> "Console":
    """Where people's output goes. Off a terminal lines are wide, so that `grep` finds what belongs together."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        with contextlib.suppress(io.UnsupportedOperation, ValueError):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end a command
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_OFF_TERMINAL
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def table(*columns: str, right: Iterable[str] = ()) -> "Table":
    """A plain table; the named columns are numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def pairs(rows: Iterable[Pair]) -> "Table":
    """Names and values, one pair a line; empty values are left out."""
    from rich.table import Table

    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, plain(value) if isinstance(value, str) else value)
    return made


def beside(left: "Text", right: "Text") -> "Table":
    """Two texts, the right one wrapped within its own width."""
    from rich.table import Table

    made = Table.grid()
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(left, right)
    return made


def plain(value: object, style: str = "") -> "Text":
    """A value as text that neither markup nor control characters of a file can turn into something else."""
    from rich.text import Text

    return Text(printable(str(value)), style=style)


def coloured(word: str) -> "Text":
    """A state or an outcome in its colour."""
    return plain(word, STATUS_STYLES.get(word, ""))


def error_lines(code: str, message: str, hint: str) -> "Text":
    """An error with what to check next."""
    text = plain(f"{code}: {message}" if code else message, "red")
    if hint:
        text.append(f"\nnext: {printable(hint)}", style="red")
    return text


def printable(text: str) -> str:
    """The text without control characters but the line's end."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def size(count: int) -> str:
    """Bytes for people; more than there can be is told as it was given."""
    if abs(count) >= 2**63:
        return f"{count} B"
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if value < 1024 or unit == units[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(milliseconds: float) -> str:
    """How long something took, for people."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else age(seconds)


def age(seconds: float) -> str:
    """How long ago something was: its two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def since(moment: datetime, now: datetime | None = None) -> str:
    """How long ago a moment was; a clock that is behind shows as such."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return age(seconds) if seconds > -1 else f"in {age(-seconds)}"


def shown(value: Any) -> str:
    """A value of a document for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value))
    return "" if value is None else str(value)
