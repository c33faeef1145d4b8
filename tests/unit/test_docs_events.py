"""docs/logs.md lists every event that the code can log, with its level and its own fields, and no other."""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent import trace
from agent.errors import AgentError
from lambdas.dispatch import DispatchFailed

PROJECT = Path(__file__).resolve().parents[2]
LOGS_PAGE = PROJECT / "docs/logs.md"
OPERATIONS_PAGE = PROJECT / "docs/operations.md"
SOURCES = ("agent", "lambdas")
EVENT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
LEVEL_OF_METHOD = {"exception": "ERROR", "warn": "WARNING"}
INTERNAL_ERROR = "internal_error"  # of a result whose cause is no AgentError


@dataclass
class Event:
    """An event with all levels and fields that its places give it."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)


def sources() -> Iterator[Path]:
    for folder in SOURCES:
        yield from sorted((PROJECT / folder).rglob("*.py"))


class Collector(ast.NodeVisitor):
    """Collects the events of one file; a name in the place of a literal is looked up in its function."""

    def __init__(self, path: Path, events: dict[str, Event]) -> None:
        self._path = path
        self._events = events
        self._scopes: list[ast.AST] = []
        self.unclear: list[str] = []

    def visit_Module(self, node: ast.Module) -> None:
        self._in_scope(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._in_scope(node)

    def visit_Call(self, node: ast.Call) -> None:
        if called(node) == "emit" and len(node.args) >= 3:
            fields = {keyword.arg for keyword in node.keywords if keyword.arg}
            for level, event in self._choices(node.args[1], node.args[2]):
                self._add(node, texts(event), attributes(level) & LEVELS, fields)
        for keyword in node.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                self._add_extra(node, keyword.value)
        self.generic_visit(node)

    def _in_scope(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef) and node.name == "emit":
            return  # the function itself, which passes on what it is given
        self._scopes.append(node)
        self.generic_visit(node)
        self._scopes.pop()

    def _add_extra(self, node: ast.Call, extra: ast.Dict) -> None:
        entries = {text: value for key, value in zip(extra.keys, extra.values, strict=True) if (text := text_of(key))}
        if "event" in entries:
            method = called(node)
            level = LEVEL_OF_METHOD.get(method, method.upper())
            self._add(node, texts(entries.pop("event")), {level} & LEVELS, set(entries))

    def _add(self, node: ast.Call, names: set[str], levels: set[str], fields: set[str]) -> None:
        place = f"{self._path.relative_to(PROJECT)}:{node.lineno}"
        if not names or not levels:
            self.unclear.append(place)
        for name in names:
            event = self._events.setdefault(name, Event())
            event.levels |= levels
            event.fields |= fields
            event.places.append(place)

    def _choices(self, level: ast.expr, event: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
        """Level and event of a call; `event, level = (…) if … else (…)` before it gives them in pairs."""
        for assignment in self._assignments():
            names = [part.id if isinstance(part, ast.Name) else "" for part in parts(assignment.targets[0])]
            if isinstance(level, ast.Name) and isinstance(event, ast.Name) and {level.id, event.id} <= set(names):
                for value in alternatives(assignment.value):
                    pair = parts(value)
                    yield pair[names.index(level.id)], pair[names.index(event.id)]
                return
        yield from itertools.product(self._values(level), self._values(event))

    def _values(self, node: ast.expr) -> list[ast.expr]:
        if not isinstance(node, ast.Name):
            return [node]
        found = [
            assignment.value
            for assignment in self._assignments()
            if isinstance(target := assignment.targets[0], ast.Name) and target.id == node.id
        ]
        return found or [node]

    def _assignments(self) -> Iterator[ast.Assign]:
        for scope in reversed(self._scopes):
            yield from (node for node in ast.walk(scope) if isinstance(node, ast.Assign))


def parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def alternatives(node: ast.expr) -> list[ast.expr]:
    return [*alternatives(node.body), *alternatives(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def text_of(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def texts(node: ast.expr) -> set[str]:
    """The event names that an expression can be."""
    return {text for part in ast.walk(node) if EVENT.fullmatch(text := text_of(part))}


def attributes(node: ast.expr) -> set[str]:
    return {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def events_of_the_code() -> tuple[dict[str, Event], list[str]]:
    events: dict[str, Event] = {}
    unclear: list[str] = []
    for path in sources():
        collector = Collector(path, events)
        collector.visit(ast.parse(path.read_text()))
        unclear += collector.unclear
    return events, unclear


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their first two lines."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def names_in(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def events_of_the_page() -> dict[str, Event]:
    return {
        name: Event(set(row[1].split(", ")), names_in(row[3]) if len(row) > 3 else set())
        for row in rows(LOGS_PAGE, "Events")
        for name in names_in(row[0])
    }


def test_every_event_is_named_by_a_literal() -> None:
    _, unclear = events_of_the_code()
    assert unclear == [], "give `emit` its event and level as literals, or as a name assigned in that function"


def test_the_page_lists_every_event_of_the_code() -> None:
    code, page = events_of_the_code()[0], events_of_the_page()
    missing = {name: event.places for name, event in code.items() if name not in page}
    assert missing == {}, f"add these rows to docs/logs.md, `## Events`: {sorted(missing)}"


def test_the_code_logs_every_event_of_the_page() -> None:
    gone = sorted(events_of_the_page().keys() - events_of_the_code()[0].keys() - {"log.message"})
    assert gone == [], "docs/logs.md lists events that nothing logs any more: remove their rows"


def test_the_page_has_the_levels_and_fields_of_each_event() -> None:
    code, page = events_of_the_code()[0], events_of_the_page()
    wrong = {
        name: f"levels {sorted(event.levels)}, fields {sorted(event.fields)} at {', '.join(event.places)}"
        for name, event in code.items()
        if name in page and (event.levels != page[name].levels or not event.fields <= page[name].fields)
    }
    assert wrong == {}, "correct these rows in docs/logs.md, `## Events`"


def test_the_page_lists_every_name_of_the_trace_context() -> None:
    listed = {name for row in rows(LOGS_PAGE, "Fields") for name in names_in(row[0])}
    assert set(trace.CONTEXT_NAMES) - listed == set()


def exit_codes() -> dict[str, str]:
    """Every error code with the exit code that the page must name: none for those of the Lambda alone."""
    kinds: list[type[AgentError]] = [AgentError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    of_the_lambda: list[type[DispatchFailed]] = [DispatchFailed, *DispatchFailed.__subclasses__()]
    return (
        dict.fromkeys((kind.code for kind in of_the_lambda), "none")
        | {kind.code: str(kind.exit_code) for kind in kinds}
        | {INTERNAL_ERROR: "1"}
    )


def test_the_guide_lists_every_error_code_with_its_exit_code() -> None:
    listed = {name: row[1] for row in rows(OPERATIONS_PAGE, "Error codes") for name in names_in(row[0])}
    expected = exit_codes()
    assert {code: exit_code for code, exit_code in expected.items() if listed.get(code) != exit_code} == {}
    assert sorted(listed.keys() - expected.keys()) == []
