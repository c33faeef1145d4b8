"""The root service: handles every waiting request of `spool/root/`, leaves a result for each, and ends.

The spool belongs to a less privileged user. So folders are held by descriptors, no link is followed, requests carry no
paths, and root writes only into folders that are its own. A result is there before its request is removed: whatever is
cut off in between is handled again, and a request that has a result is not.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agent import logs, trace
from agent.adapters import files
from agent.adapters.held_folder import HeldFolder, explained, temporary_name
from agent.domain import root_request
from agent.domain.request import MOST_REQUEST_BYTES, ErrorResult, format_moment
from agent.domain.root_request import (
    MOST_LOG_LINES,
    MOST_RESULT_BYTES,
    REQUESTS_FOLDER,
    RESULTS_FOLDER,
    SUFFIX,
    RootRequest,
    RootResult,
)
from agent.errors import AgentError, BadInput, FileUnusable, of_the_node
from agent.logs import emit

MOST_REQUESTS = 100  # of one run: what is left starts the next one
UNFINISHED_AFTER_S = 60.0
RESULTS_KEPT = 200
INTERNAL_ERROR = "internal_error"
Verb = Callable[[HeldFolder], dict[str, Any]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RootService:
    """Where the state folder is and what each verb does; a verb gets the folder `tools`, which is root's own."""

    state: Path
    verbs: Mapping[str, Verb]

    def run(self) -> int:
        """Handles what waits. Returns the exit code. Raises FileUnusable when the folders are not as they must be."""
        with (
            HeldFolder.open(self.state) as state,
            state.child("spool") as spool,
            spool.child(REQUESTS_FOLDER) as requests,
            spool.child(RESULTS_FOLDER) as results,
            state.child("tools") as tools,
        ):
            requests.require_own(group_may_write=True)
            results.require_own()
            tools.require_own()
            results.lock()
            _prune(requests, results)
            for name in [name for name in requests.names() if not files.is_temporary(name)][:MOST_REQUESTS]:
                with explained(f"{requests.told}/{name}"):
                    self._handle(name, spool.owner, requests, results, tools)
        return 0

    def _handle(
        self, name: str, owner: int, requests: HeldFolder, results: HeldFolder, tools: HeldFolder
    ) -> None:  # fmt: skip
        """One entry of the folder to its end, which is a result wherever the name can have one."""
        try:
            identifier = root_request.identifier_of(name)
            if f"{identifier}{SUFFIX}" in results.names():
                _put_away(name, requests)  # answered before a crash kept it from being removed
                return
            content = requests.read(name, owner=owner, most_bytes=MOST_REQUEST_BYTES)
            request = root_request.decode(content, identifier)
        except FileNotFoundError:
            return  # the one who asked took it back
        except (BadInput, IsADirectoryError) as error:
            _reject(name, error, requests, results)
            return
        result = self._answer(request, tools)
        try:
            _finish(result, results)
        finally:  # without one too (a full disk), or it would start this service again and again; its asker is told
            _put_away(name, requests)

    def _answer(self, request: RootRequest, tools: HeldFolder) -> RootResult:
        with (
            trace.bound(
                trace_id=request.trace_id, op_id=request.op_id, operation=request.verb, parent_span_id=request.span_id
            ),
            trace.span(),
            logs.collected(MOST_LOG_LINES) as lines,
        ):
            started_at, started = _now(), time.monotonic()
            emit(log, logging.INFO, "root.started", f"{request.verb} {request.id} started", root_request=request.id)
            output: dict[str, Any] = {}
            error = None
            try:
                output = self.verbs[request.verb](tools)
            except Exception as failure:
                error = _explained(failure)
                if error is None:  # a defect of ours must be an answer too
                    log.exception("the root service met an unexpected error", extra={"event": "root.crashed"})
                    text = f"{type(failure).__name__}: {failure}"
                    error = ErrorResult(INTERNAL_ERROR, text, "report this with the log lines")
            _log_end(request, error, round((time.monotonic() - started) * 1000))
        return RootResult(
            id=request.id, verb=request.verb, trace_id=request.trace_id, op_id=request.op_id,
            status="failed" if error else "succeeded", started_at=started_at, finished_at=_now(), output=output,
            error=error, log_lines=tuple(lines),
        )  # fmt: skip


def _log_end(request: RootRequest, error: ErrorResult | None, duration_ms: int) -> None:
    if error is None:
        emit(log, logging.INFO, "root.finished", f"{request.verb} {request.id} succeeded", root_request=request.id,
             duration_ms=duration_ms)  # fmt: skip
        return
    emit(log, logging.ERROR, "root.failed", f"{request.verb} {request.id} failed: {error.message}",
         root_request=request.id, duration_ms=duration_ms, error_code=error.code, error_message=error.message,
         error_hint=error.hint)  # fmt: skip


def _explained(failure: Exception) -> ErrorResult | None:
    known = of_the_node(failure) if isinstance(failure, OSError) else failure
    if not isinstance(known, AgentError):
        return None
    return ErrorResult(known.code, known.message, known.hint, known.retryable)


def _finish(result: RootResult, results: HeldFolder) -> None:
    content = msgspec.json.encode(result)
    if len(content) > MOST_RESULT_BYTES:
        content = msgspec.json.encode(msgspec.structs.replace(result, log_lines=()))
    results.write_atomic(f"{result.id}{SUFFIX}", content + b"\n", mode=0o644)


def _reject(name: str, error: BadInput | IsADirectoryError, requests: HeldFolder, results: HeldFolder) -> None:
    """Tells why, in the log and, where the name is that of a request, in a result; the entry goes away."""
    message, hint = (error.message, error.hint) if isinstance(error, BadInput) else ("it is a folder", "")
    shown = trace.printable_excerpt(name)
    with logs.collected(MOST_LOG_LINES) as lines:
        emit(log, logging.ERROR, "root.rejected", f"{shown} is no valid request: {message}",
             error_code=BadInput.code, error_message=message, error_hint=hint)  # fmt: skip
    with contextlib.suppress(BadInput):
        identifier, now = root_request.identifier_of(name), _now()
        told = ErrorResult(BadInput.code, message, hint)
        _finish(RootResult(identifier, "", "", "", "rejected", now, now, error=told, log_lines=tuple(lines)), results)
    _put_away(name, requests)


def _put_away(name: str, requests: HeldFolder) -> None:
    """Removes what was handled, whatever its owner made of it meanwhile."""
    with contextlib.suppress(OSError, FileUnusable):
        requests.remove(name)
        return
    # A folder with more in it than may be removed: under a name that starts nothing again.
    with contextlib.suppress(FileNotFoundError):
        requests.rename(name, temporary_name("rejected"))


def _prune(requests: HeldFolder, results: HeldFolder) -> None:
    """Removes unfinished writes of killed writers, and all but the newest results."""
    now = time.time()
    for name in results.names():
        if files.is_temporary(name):
            results.remove(name)  # only the holder of the lock writes there
    for name in filter(files.is_temporary, requests.names()):
        with contextlib.suppress(OSError, FileUnusable):
            if requests.modified_at(name) < now - UNFINISHED_AFTER_S:
                requests.remove(name)
    aged = sorted(_aged(results))
    for _, name in aged[: max(0, len(aged) - RESULTS_KEPT)]:
        results.remove(name)


def _aged(folder: HeldFolder) -> Iterator[tuple[float, str]]:
    for name in folder.names():
        with contextlib.suppress(FileNotFoundError):
            yield folder.modified_at(name), name


def _now() -> str:
    return format_moment(datetime.now(UTC))
