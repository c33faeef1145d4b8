"""The command `etcd-agent` in this process, as its user sees it: exit code, stdout and stderr, and no traceback."""

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from agent import cli
from agent.errors import EXIT_NO_DAEMON

CRASH_WORDS = ("Traceback", "unexpected error", "command.crashed", "--- Logging error ---")


@dataclass(frozen=True)
class Told:
    """What one call did."""

    code: int
    out: str
    err: str


def run(words: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> Told:
    """Runs it with streams as a real process has them: stdout strict, stderr with escapes, both UTF-8."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"),
        "stdout": io.TextIOWrapper(out, encoding="utf-8", errors="strict", write_through=True),
        "stderr": io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True),
    }
    with contextlib.ExitStack() as stack:
        for name, stream in streams.items():
            stack.enter_context(mock.patch.object(sys, name, stream))
        stack.enter_context(mock.patch.dict(os.environ, dict(environment), clear=True))
        stack.enter_context(_own_logging())
        try:
            code = cli.main(list(words))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Told(code, out.getvalue().decode("utf-8", "replace"), err.getvalue().decode("utf-8", "replace"))


def require_in_order(told: Told, words: Sequence[str]) -> None:
    """The exit code is one that is documented, nothing crashed, and `--json` printed whole JSON documents."""
    for word in CRASH_WORDS:
        assert word not in told.err, f"{words} printed {word!r}: {told.err[-1500:]}"
    assert 0 <= told.code <= EXIT_NO_DAEMON, f"{words} ended with {told.code}: {told.err[-1500:]}"
    if "--json" in words and "--help" not in words and "-h" not in words:
        for line in told.out.splitlines():
            if line.startswith("{"):
                strictly_decoded(line)


def strictly_decoded(line: str | bytes) -> Any:
    """A JSON text of one value, without the NaN and Infinity that only Python reads. Raises ValueError."""
    return json.loads(line, parse_constant=_no_constant)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """What the command sets up is gone afterwards, so that no handler keeps a stream of this call."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
