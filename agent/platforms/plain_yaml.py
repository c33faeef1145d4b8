"""The part of YAML that installers write: block mappings and lists, plain and quoted scalars, comments.

A whole YAML reader would be a dependency for a handful of simple files. What is beyond this part is either `Opaque`,
there but not read (flow collections, block scalars, anchors, tags), or, where it could change the meaning of what is
around it, a reason to understand nothing at all. So an odd file never yields a wrong value. All scalars are text.
"""

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

MOST_DEPTH = 24
KEY = re.compile(r"""("[^"\\]*"|'[^']*'|[A-Za-z0-9_./+][A-Za-z0-9_./+-]*)\s*:(?:\s+(.*))?""")
LIKE_A_KEY = re.compile(r":(\s|$)")
SINGLE_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:\s+#.*)?")
DOUBLE_QUOTED = re.compile(r'("(?:[^"\\]|\\["\\/bnt])*")(?:\s+#.*)?')
BLOCK_SCALAR = re.compile(r"[|>][0-9+-]{0,2}(?:\s+#.*)?")
FLOW_PART = re.compile(r"""[^\[\]{}"']+|"[^"\\]*"|'[^']*'|[\[\]{}]""")
NEVER_FIRST = frozenset("]}%@`,?:|>")
ODD_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


class NotUnderstood(Exception):
    """The text goes beyond what is read here. The message has the line's number and nothing of its content."""


@dataclass(frozen=True)
class Scalar:
    """A value as text, with the number of the line it stands in."""

    text: str
    line: int


@dataclass(frozen=True)
class Opaque:
    """A value that is there and was not read."""

    line: int


Tree: TypeAlias = "Scalar | Opaque | dict[str, Tree] | list[Tree]"


def parse(text: str) -> Tree:
    """The document: dicts and lists of `Scalar` and `Opaque`, an empty dict for an empty one. Raises NotUnderstood."""
    text = text.replace("\r\n", "\n")
    if "\r" in text or ODD_CHARACTERS.search(text):
        raise NotUnderstood("it has control characters")
    return _Parser(text.split("\n")).document()


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    content: str

    @property
    def is_item(self) -> bool:
        return self.content == "-" or self.content.startswith("- ")

    def odd(self, why: str) -> NotUnderstood:
        return NotUnderstood(f"line {self.number}: {why}")


class _Parser:
    def __init__(self, raw: list[str]) -> None:
        self._raw = raw
        self._at = 0
        self._started = False
        self._pending: _Line | None = None

    def document(self) -> Tree:
        first = self._peek()
        if first is None:
            return {}
        tree = self._block(first, 0)
        if (left := self._peek()) is not None:
            raise left.odd("it does not belong to what is above it")
        return tree

    def _peek(self) -> _Line | None:
        while self._pending is None and self._at < len(self._raw):
            raw = self._raw[self._at]
            content = raw.strip(" ")
            line = _Line(self._at + 1, len(raw) - len(raw.lstrip(" ")), content)
            if not content or content[0] == "#":
                self._at += 1
            elif "\t" in raw:
                raise line.odd("it has a tab")
            elif content == "---" and not self._started:
                self._at, self._started = self._at + 1, True
            elif line.indent == 0 and content.split(" ")[0] in ("---", "..."):
                raise line.odd("a second document begins")
            else:
                self._started = True
                return line
        return self._pending

    def _take(self) -> None:
        if self._pending is None:
            self._at += 1
        self._pending = None

    def _block(self, line: _Line, depth: int) -> Tree:
        if depth > MOST_DEPTH:
            raise line.odd("it is nested too deep")
        return self._list(line.indent, depth) if line.is_item else self._mapping(line.indent, depth)

    def _mapping(self, indent: int, depth: int) -> Tree:
        found: dict[str, Tree] = {}
        while (line := self._peek()) is not None and line.indent == indent:
            match = None if line.is_item else KEY.fullmatch(line.content)
            if match is None:
                raise line.odd("it is no `key: value`")
            key = match[1].strip("\"'")
            if key in found:
                raise line.odd("it repeats a key")
            self._take()
            found[key] = self._value(line, match[2] or "", depth, list_may_follow=True)
        return found

    def _list(self, indent: int, depth: int) -> Tree:
        items: list[Tree] = []
        while (line := self._peek()) is not None and line.indent == indent and line.is_item:
            rest = line.content[1:].lstrip(" ")
            inner = _Line(line.number, indent + len(line.content) - len(rest), rest)
            self._take()
            if inner.is_item or KEY.fullmatch(rest):
                self._pending = inner
                items.append(self._block(inner, depth + 1))
            else:
                items.append(self._value(line, rest, depth, list_may_follow=False))
        if line is not None and line.indent > indent:
            raise line.odd("it is indented more than what is above it")
        return items

    def _value(self, line: _Line, rest: str, depth: int, *, list_may_follow: bool) -> Tree:
        if rest and rest[0] != "#":
            return self._inline(line, rest)  # a line that went on with it would fit nowhere
        follower = self._peek()
        if follower is None:
            return Scalar("", line.number)
        if follower.indent > line.indent:
            return self._block(follower, depth + 1)
        if list_may_follow and follower.indent == line.indent and follower.is_item:
            return self._list(follower.indent, depth + 1)
        return Scalar("", line.number)

    def _inline(self, line: _Line, rest: str) -> Scalar | Opaque:
        if BLOCK_SCALAR.fullmatch(rest):
            self._skip_more_indented_than(line.indent)
            return Opaque(line.number)
        if rest[0] in "[{":
            return _flow(line, rest)
        if rest[0] in "&*!":
            return Opaque(line.number)
        if rest[0] in "\"'":
            return Scalar(_unquoted(line, rest), line.number)
        text = re.split(r"\s#", rest, maxsplit=1)[0].rstrip(" ")
        if text[0] in NEVER_FIRST or text == "-" or text.startswith("- ") or LIKE_A_KEY.search(text):
            raise line.odd("its value is not a plain one")
        return Scalar(text, line.number)

    def _skip_more_indented_than(self, indent: int) -> None:
        while self._at < len(self._raw):
            raw = self._raw[self._at]
            if raw.strip(" ") and len(raw) - len(raw.lstrip(" ")) <= indent:
                return
            self._at += 1


def _unquoted(line: _Line, rest: str) -> str:
    if match := SINGLE_QUOTED.fullmatch(rest):
        return match[1].replace("''", "'")
    if match := DOUBLE_QUOTED.fullmatch(rest):
        return str(json.loads(match[1]))
    raise line.odd("its quotes do not close, or have escapes that are not read here")


def _flow(line: _Line, rest: str) -> Opaque:
    """A flow collection that ends in its line; its parts are not read."""
    open_brackets = at = 0
    while match := FLOW_PART.match(rest, at):
        at = match.end()
        open_brackets += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if open_brackets == 0:
            if re.fullmatch(r"(?:\s+#.*)?", rest[at:]):
                return Opaque(line.number)
            break
    raise line.odd("its list or mapping does not end in that line")
