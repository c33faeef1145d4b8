"""How a timeline looks: a tree with offsets, durations and bars for people, nested spans as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.cli import tables
from agent.domain.span import Failure, Line, Span
from agent.domain.timeline import Timeline

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

BAR_WIDTH = 24
BAR_FROM_WIDTH = 110
ASCII_GUIDES = str.maketrans("├└│─", "|`|-")
STYLES = {"function": "bold magenta", "command": "bold blue", "submit": "bold", "operation": "bold cyan"}


@dataclass(frozen=True)
class Row:
    """A row of the tree: guides, what it says, and where in time it lies; a note has no bar."""

    guides: str
    text: "Text"
    start_us: int
    span: Span | None = None


def print_document(found: Timeline, files: Sequence[str], skipped: int) -> None:
    """The tree as one JSON document."""
    tables.print_json(
        {
            "trace_id": found.trace_id,
            "started_at": _moment(found.start_us),
            "duration_ms": (found.end_us - found.start_us) / 1000,
            "lines": found.line_count,
            "files": list(files),
            "lines_that_are_no_json": skipped,
            "spans": [_document(span, found) for span in found.roots],
        }
    )


def print_tree(found: Timeline, files: Sequence[str], skipped: int) -> None:
    """The tree for people."""
    screen = tables.console()
    total_us = found.end_us - found.start_us
    screen.print(
        tables.plain(f"trace {found.trace_id}", "bold"),
        tables.plain(f"  {_moment(found.start_us)}, {tables.duration(total_us / 1000)}, {_count(found.line_count)}"),
        sep="",
        soft_wrap=True,
    )
    screen.print(_table(found, with_bars=screen.width >= BAR_FROM_WIDTH, unicode=screen.encoding.startswith("utf")))
    notes = [f"{len(found.orphans)} parts have a parent of which no line is here"] if found.orphans else []
    notes += [f"{_count(skipped)} of {len(files)} files are no JSON and were left out"] if skipped else []
    for note in notes:
        screen.print(tables.plain(note, "dim"))


def _table(found: Timeline, *, with_bars: bool, unicode: bool) -> "Table":
    view = tables.table("AT", "WHAT", "TOOK", *(["WHEN"] if with_bars else []), right=("AT", "TOOK"))
    view.columns[0].no_wrap = view.columns[2].no_wrap = True
    for row in (row for root in found.roots for row in _rows(root, found, "", "")):
        guides = row.guides if unicode else row.guides.translate(ASCII_GUIDES)
        cells: list[str | Text | Table] = [
            f"+{(row.start_us - found.start_us) / 1e6:.3f} s",
            tables.beside(tables.plain(guides, "dim"), row.text) if guides else row.text,
            _took(row.span) if row.span else "",
        ]
        if with_bars:
            cells.append(_bar(row.span, found, "█" if unicode else "#") if row.span else "")
        view.add_row(*cells)
    return view


def _rows(span: Span, found: Timeline, guides: str, below: str) -> Iterator[Row]:
    """The span, then what happened in it, what failed and the spans below it, in time."""
    yield Row(guides, _title(span, found), span.start_us, span)
    inside: list[Span | Line | Failure] = [*span.events, *span.failures, *span.children]
    inside.sort(key=lambda one: one.start_us if isinstance(one, Span) else one.at_us)
    for number, one in enumerate(inside, 1):
        last = number == len(inside)
        guide, under = below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
        if isinstance(one, Span):
            yield from _rows(one, found, guide, under)
        elif isinstance(one, Line):
            yield Row(guide, _event(one), one.at_us)
        else:
            yield Row(guide, tables.error_lines(one.code, one.message, one.hint), one.at_us)


def _title(span: Span, found: Timeline) -> "Text":
    words = {"command": "SSM command ", "submit": "submit "}.get(span.kind, "")
    text = tables.plain(f"{words}{span.name}", STYLES.get(span.kind, ""))
    attempt = span.first("attempt")
    if span.kind == "operation" and attempt not in ("", "1"):
        text.append(f" attempt {tables.printable(attempt)}", style="bold")
    if span.place and span.kind != "step":
        text.append(f" on {tables.printable(span.place)}", style="dim")
    if span.status not in ("", "succeeded"):
        text.append(" ")
        text.append_text(tables.coloured(span.status))
    if span.kind == "command" and not span.children:
        text.append("  no line from the node is here", style="yellow")
    if span.span_id in found.orphans:
        text.append("  (parent not here)", style="dim")
    return text


def _event(line: Line) -> "Text":
    style = "yellow" if line.text("level") == "WARNING" else "dim"
    first = line.text("first_trace_id")
    more = f": etcd-agent trace {first}" if first else ""
    return tables.plain(f"{line.text('event') or line.text('logger')}: {line.text('message')}{more}", style)


def _took(span: Span) -> str:
    """Nobody knows what a part took of which no line tells the end."""
    return "?" if span.status == "unfinished" else tables.duration(span.duration_ms)


def _bar(span: Span, found: Timeline, mark: str) -> "Text":
    total_us = max(1, found.end_us - found.start_us)
    before = min(BAR_WIDTH - 1, BAR_WIDTH * (span.start_us - found.start_us) // total_us)
    length = max(1, min(BAR_WIDTH - before, round(BAR_WIDTH * span.duration_ms * 1000 / total_us)))
    style = {"failed": "red", "refused": "yellow", "unfinished": "yellow"}.get(span.status, "cyan")
    return tables.plain(" " * before + mark * length, style)


def _document(span: Span, found: Timeline) -> dict[str, Any]:
    return {
        "span_id": span.span_id, "parent_span_id": span.parent_id, "kind": span.kind, "name": span.name,
        "status": span.status, "started_at": _moment(span.start_us),
        "offset_ms": (span.start_us - found.start_us) / 1000, "duration_ms": span.duration_ms,
        "attempt": span.first("attempt"), "place": span.place, "op_id": span.first("op_id"),
        "errors": [
            {"at": _moment(one.at_us), "code": one.code, "message": one.message, "hint": one.hint}
            for one in span.failures
        ],
        "events": [
            {"at": _moment(line.at_us), "level": line.text("level"), "event": line.text("event"),
             "message": line.text("message")}
            for line in span.events
        ],
        "children": [_document(child, found) for child in span.children],
    }  # fmt: skip


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(lines: int) -> str:
    return f"{lines} line{'s' * (lines != 1)}"
