"""A part of a trace's work as its log lines tell it: what it is, how long it took, how it ended, why it failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

AGENT = "etcd-agent"
MOST_DURATION_MS = 1e12
ENDS = ("answered", "ended", "failed", "finished", "refused")
STATUS_BY_EVENT = {"finished": "succeeded", "failed": "failed", "refused": "refused", "interrupted": "interrupted"}
MARKS = (
    "step.started",
    "step.finished",
    "operation.started",
    "operation.finished",
    "lambda.started",
    "lambda.finished",
)
LIBRARY = "log.message"
SEVERE = ("WARNING", "ERROR", "CRITICAL")

Kind = Literal["function", "command", "submit", "operation", "step", "request"]


@dataclass(frozen=True)
class Failure:
    """Why something failed, and what to check next."""

    code: str
    message: str
    hint: str
    at_us: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Line:
    """A log line and its moment, in microseconds since 1970."""

    at_us: int
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field as text, "" when it is not there or too deep to be one."""
        value = self.fields.get(name, "")
        try:
            return value if isinstance(value, str) else "" if value is None else str(value)
        except RecursionError:
            return ""

    @property
    def is_agents(self) -> bool:
        return self.text("service") == AGENT

    @property
    def failure(self) -> Failure | None:
        """The error that this line tells, if it does."""
        code, message = self.text("error_code"), self.text("error_message")
        if not code and self.text("level") not in ("ERROR", "CRITICAL"):
            return None
        last_of_traceback = self.text("exc_info").strip().rpartition("\n")[2]
        return Failure(code, message or last_of_traceback or self.text("message"), self.text("error_hint"), self.at_us)


@dataclass
class Span:
    """A part of the work: its own lines, and the parts below it."""

    span_id: str
    parent_id: str = ""
    own: list[Line] = field(default_factory=list)
    about: list[Line] = field(default_factory=list)  # of others that have no span: the daemon, a library
    children: list["Span"] = field(default_factory=list)
    sent_us: int | None = None  # of a command: when it was given to SSM
    command_id: str = ""
    instance_id: str = ""  # of a command: where it was sent

    @property
    def lines(self) -> list[Line]:
        """All its lines in time."""
        return sorted((*self.own, *self.about), key=lambda line: line.at_us)

    @property
    def start_us(self) -> int:
        moments = [line.at_us for line in self.lines] or [child.start_us for child in self.children]
        return min(moments, default=0) if self.sent_us is None else self.sent_us

    @property
    def end_us(self) -> int:
        """When it ended; what it began may go on."""
        return self.start_us + round(self.duration_ms * 1000)

    @property
    def duration_ms(self) -> float:
        """What its last line says, else from its first line to its last; of a command, to the end of what it ran."""
        for line in reversed(self.own):
            value = line.fields.get("duration_ms")
            if _word(line) not in ENDS or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if 0 <= value <= MOST_DURATION_MS:
                return value
        ends = [child.end_us for child in self.children] if self.kind == "command" else [one.at_us for one in self.own]
        return (max([self.start_us, *ends]) - self.start_us) / 1000  # a child's clock may be behind

    @property
    def kind(self) -> Kind:
        if self.command_id:
            return "command"
        if not self.own:
            return "request"
        if not self.own[0].is_agents:
            return "function"
        if self.first("step"):
            return "step"
        return "operation" if any(line.text("event").startswith("operation.") for line in self.own) else "submit"

    @property
    def name(self) -> str:
        """The command, the step, the service of a function, else the operation."""
        if self.kind == "command":
            return self.command_id
        names = {"step": "step", "function": "service"}
        return self.first(names.get(self.kind, "operation")) or self.first("service") or "unknown"

    @property
    def place(self) -> str:
        """The node, of a command the instance."""
        return self.instance_id or self.first("node")

    @property
    def status(self) -> str:
        """How it ended; "unfinished" when it began and no line says how it ended."""
        for line in reversed(self.own):
            if word := line.text("status") or STATUS_BY_EVENT.get(_word(line), ""):
                return word
        return "unfinished" if any(_word(line) == "started" for line in self.own) else ""

    @property
    def failures(self) -> list[Failure]:
        """What failed here, each once, without what is told by a span below it."""
        below = {(told.code, told.hint) for child in self.children for told in child.all_failures()}
        found = dict.fromkeys(told for line in self.lines if (told := line.failure))
        return [told for told in found if not told.code or (told.code, told.hint) not in below]

    @property
    def events(self) -> list[Line]:
        """The lines that tell more than that it began, ended or failed."""
        return [
            line
            for line in self.lines
            if line.failure is None
            and line.text("event") not in MARKS
            and (line.text("event") not in ("", LIBRARY) or line.text("level") in SEVERE)
        ]

    def all_failures(self) -> list[Failure]:
        """What failed here and below."""
        own = [told for line in self.lines if (told := line.failure)]
        return own + [told for child in self.children for told in child.all_failures()]

    def first(self, name: str) -> str:
        """The first value of a field in its lines."""
        return next((text for line in (*self.own, *self.about) if (text := line.text(name))), "")


def _word(line: Line) -> str:
    return line.text("event").rpartition(".")[2]
