"""JSON log lines: one object a line, the trace of the context in each. The Lambdas ship this file too.

The context is merged once, by a filter on the handler, so lines of libraries carry the trace as well and no
call site passes an id. Files are appended to by several processes with one `write` a line, and rotated by
rename and create: a writer that sees another inode under its path opens the new file.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from agent import trace

DEFAULT_EVENT = "log.message"
LIBRARIES_AT_WARNING = ("boto3", "botocore", "urllib3", "watchdog", "s3transfer")
ROTATED_FILES_KEPT = 5
NOT_REPLAYED = frozenset({"timestamp", "level", "logger", "message"})


class ContextFilter(logging.Filter):
    """Adds time, level, the process's own fields and the bound trace context to a record."""

    def __init__(self, process_fields: Mapping[str, str]) -> None:
        super().__init__()
        self._process_fields = {name: value for name, value in process_fields.items() if value}

    def filter(self, record: logging.LogRecord) -> bool:
        moment = datetime.fromtimestamp(record.created, UTC)
        fields = record.__dict__
        fields["timestamp"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields["level"] = record.levelname
        fields["logger"] = record.name
        fields.setdefault("event", DEFAULT_EVENT)
        for name, value in (self._process_fields | trace.current()).items():
            fields.setdefault(name, value)
        return True


class LineFile(logging.Handler):
    """Appends each record to a file by one write; follows a rotation that another process did."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._descriptor = _open_for_append(path)
        self._separator = b""
        self._is_told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow_rotation()
            content = self._separator + (self.format(record) + "\n").encode(errors="backslashreplace")
            # What a full disk cut off must not swallow the line that follows it.
            self._separator = b"" if os.write(self._descriptor, content) == len(content) else b"\n"
        except OSError as error:
            self._tell_once(error)
        except Exception:  # noqa: BLE001 - whatever a line holds, logging must not be what stops an operation
            self.handleError(record)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:  # closed twice, the number may be somebody else's file by now
            with contextlib.suppress(OSError):
                os.close(descriptor)
        super().close()

    def _tell_once(self, error: OSError) -> None:
        """A full disk is no defect: a word about it, and no traceback with every line that has no room."""
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"{self._path} can not be written: {error.strerror}\n")

    def _follow_rotation(self) -> None:
        if self._descriptor < 0:
            raise ValueError(f"{self._path} was closed")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                return
        fresh = _open_for_append(self._path)
        os.close(self._descriptor)
        self._descriptor = fresh
        self._separator = b""


class _Collector(logging.Handler):
    def __init__(self, lines: list[dict[str, object]], most_lines: int) -> None:
        super().__init__()
        self._lines, self._most_lines = lines, most_lines

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._lines) < self._most_lines:
            self._lines.append(json.loads(self.format(record)))


def configure(
    *,
    service: str,
    version: str,
    level: str = "INFO",
    stream: TextIO | None = None,
    stream_level: str = "DEBUG",
    file: Path | None = None,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Replaces the root logger's handlers by JSON ones: a stream (stderr by default) and, if given, a file.

    `fields` are the process's own (cluster, instance_id, node). Raises OSError when the file cannot be opened.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    handlers[0].setLevel(stream_level)
    if file is not None:
        handlers.append(LineFile(file))
    process_fields = {"service": service, "version": version, **(fields or {})}
    for handler in handlers:
        handler.addFilter(ContextFilter(process_fields))
        handler.setFormatter(_formatter())
    _install(handlers, level)


def emit(logger: logging.Logger, level: int, event: str, message: str, /, **fields: object) -> None:
    """Logs one line with its stable dotted event name and the event's own fields."""
    logger.log(level, message, extra={"event": event, **fields}, stacklevel=2)


@contextlib.contextmanager
def collected(most_lines: int) -> Iterator[list[dict[str, object]]]:
    """Keeps the lines of the block too, as JSON objects, for another process's log; the first `most_lines` of them."""
    lines: list[dict[str, object]] = []
    root = logging.getLogger()
    handler = _Collector(lines, most_lines)
    for kept in root.handlers[:1]:
        for filter_ in kept.filters:
            handler.addFilter(filter_)
    handler.setFormatter(_formatter())
    root.addHandler(handler)
    try:
        yield lines
    finally:
        root.removeHandler(handler)


def replay(line: Mapping[str, object]) -> None:
    """Writes a line that another process of ours collected, with its own time, fields and trace."""
    fields = {name: value for name, value in line.items() if name not in NOT_REPLAYED}
    level = logging.getLevelNamesMapping().get(str(line.get("level")), logging.INFO)
    try:
        created = datetime.fromisoformat(str(line.get("timestamp"))).timestamp()
    except ValueError:
        return
    known = {"created": created, "levelno": level, "levelname": logging.getLevelName(level)}
    name = str(line.get("logger", __name__))
    record = logging.makeLogRecord(fields | known | {"name": name, "msg": "%s", "args": (line.get("message", ""),)})
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.handle(record)


def rotate(path: Path, *, max_size_bytes: int, kept: int = ROTATED_FILES_KEPT) -> bool:
    """Renames a full log file to `.1` (older ones move up, the oldest goes) and creates a new one.

    Only one process, the daemon, may call this. Returns whether it rotated.
    """
    try:
        if path.stat().st_size < max_size_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            numbered(path, number).rename(numbered(path, number + 1))
    path.rename(numbered(path, 1))
    os.close(_open_for_append(path))
    return True


def numbered(path: Path, number: int) -> Path:
    """The name of the n-th rotated file of `path`."""
    return path.with_name(f"{path.name}.{number}")


def _formatter() -> JsonFormatter:
    # The formatter leaves extra fields out whose names begin with `_`: a metric's `_aws` comes under another one.
    return JsonFormatter(
        ["timestamp", "level", "logger", "message"], json_ensure_ascii=False, rename_fields={"emf": "_aws"}
    )


def _open_for_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _install(handlers: Sequence[logging.Handler], level: str) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for name in LIBRARIES_AT_WARNING:
        logging.getLogger(name).setLevel(logging.WARNING)
