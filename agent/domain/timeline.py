"""Log lines of one trace as a tree of spans: who asked, what SSM ran, what each step took, what failed and why.

Lines come from several machines and may be anything that is a JSON object: nothing in them can make this fail, and
no line of the trace is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.domain.span import Line, Span

MOST_DEPTH = 32
LATEST_US = 253_370_764_800_000_000  # the year 9999 begins: what comes after has no date here with every offset


@dataclass(frozen=True)
class Timeline:
    """The whole tree. `orphans` are the spans whose parent has no line here."""

    trace_id: str
    roots: Sequence[Span]
    line_count: int
    orphans: frozenset[str] = frozenset()

    @property
    def start_us(self) -> int:
        """The earliest: by another machine's clock a part may begin before what it belongs to."""
        return min((span.start_us for root in self.roots for span in walk(root)), default=0)

    @property
    def end_us(self) -> int:
        spans = [span for root in self.roots for span in walk(root)]
        return max([0, *(span.end_us for span in spans), *(line.at_us for span in spans for line in span.lines)])


def build(trace_id: str, lines: Iterable[Mapping[str, Any]]) -> Timeline:
    """The tree of all lines that carry this trace id, whatever their order."""
    found = _in_time(fields for fields in lines if fields.get("trace_id") == trace_id)
    spans: dict[str, Span] = {}
    for line in found:
        _place(spans, line)
    _hang_under_commands(spans, found)
    roots = _link(spans)
    orphans = frozenset(span.span_id for span in roots if span.parent_id)
    return Timeline(trace_id, roots, len(found), orphans)


def walk(span: Span) -> Iterable[Span]:
    """The span and all below it."""
    yield span
    for child in span.children:
        yield from walk(child)


def _in_time(lines: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Sorted; a line without a readable time keeps its place behind the one before it."""
    placed, last_us = [], 0
    for fields in lines:
        last_us = _moment_us(fields.get("timestamp"), last_us)
        placed.append(Line(last_us, fields))
    first_us = min((line.at_us for line in placed if line.at_us), default=0)
    return sorted((Line(line.at_us or first_us, line.fields) for line in placed), key=lambda line: line.at_us)


def _moment_us(text: object, otherwise: int) -> int:
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        at_us = round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        return otherwise
    return at_us if 0 <= at_us < LATEST_US else otherwise


def _place(spans: dict[str, Span], line: Line) -> None:
    own, parent, command = line.text("span_id"), line.text("parent_span_id"), line.text("ssm_command_id")
    if own:
        span = spans.setdefault(own, Span(own))
        span.parent_id = span.parent_id or parent
        span.own.append(line)
        return
    key = parent or (f"command {command}" if command else f"service {line.text('service')}")
    spans.setdefault(key, Span(key)).about.append(line)


def _hang_under_commands(spans: dict[str, Span], lines: Sequence[Line]) -> None:
    """Puts a span for each SSM command between who sent it and what it ran on the node."""
    for command in dict.fromkeys(text for line in lines if (text := line.text("ssm_command_id"))):
        told = [line for line in lines if line.text("ssm_command_id") == command]
        ran = [span for span in spans.values() if span.first("ssm_command_id") == command and _is_agents(span)]
        ids = {span.span_id for span in ran}
        top = [span for span in ran if span.parent_id not in ids]
        node = spans.setdefault(f"command {command}", Span(f"command {command}"))
        node.command_id = command
        node.sent_us = told[0].at_us
        node.instance_id = next((text for line in told if (text := line.text("instance_id"))), "")
        for sent in [line for line in told if not line.is_agents and line.text("span_id")][:1]:
            node.sent_us, node.parent_id = sent.at_us, sent.text("span_id")
        node.parent_id = node.parent_id or next((span.parent_id for span in top), "")
        for span in top:
            span.parent_id = node.span_id


def _is_agents(span: Span) -> bool:
    return any(line.is_agents for line in (*span.own, *span.about)) and not span.span_id.startswith("command ")


def _link(spans: Mapping[str, Span]) -> list[Span]:
    roots = []
    for span in spans.values():
        parent = spans.get(span.parent_id)
        if parent is None or _is_below(spans, parent, span):
            roots.append(span)
        else:
            parent.children.append(span)
    for span in spans.values():
        span.children.sort(key=lambda child: child.start_us)
    return sorted(roots, key=lambda span: span.start_us)


def _is_below(spans: Mapping[str, Span], span: Span, other: Span) -> bool:
    """Whether `other` is above `span`, or too many are for a tree that anybody meant."""
    above: Span | None = span
    for _ in range(MOST_DEPTH):
        if above is None:
            return False
        if above is other:
            return True
        above = spans.get(above.parent_id)
    return True
