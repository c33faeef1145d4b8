"""Asking the root service: a request file in `spool/root/`, and a bounded wait for the result file."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent import logs, trace
from agent.adapters import files
from agent.domain import root_request
from agent.domain.request import ErrorResult
from agent.domain.root_request import (
    MOST_RESULT_BYTES,
    REQUESTS_FOLDER,
    RESULTS_FOLDER,
    SUFFIX,
    RootRequest,
    RootResult,
)
from agent.errors import (
    AgentError,
    BadInput,
    ConfigError,
    EtcdProcessUnclear,
    EtcdToolsMissing,
    NoSpace,
    RootServiceFailed,
    RootServiceMissing,
)
from agent.logs import emit

TIMEOUT_S = 45.0
POLL_FIRST_S = 0.02
POLL_MOST_S = 0.25
UNIT_HINT = "`systemctl status etcd-agent-root.path etcd-agent-root`; `journalctl -u etcd-agent-root`"
KINDS = (BadInput, ConfigError, EtcdToolsMissing, NoSpace)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RootServiceDoor:
    """The two folders between agent and root service; the first is for requests, the second root's own."""

    spool: Path
    timeout_s: float = TIMEOUT_S

    def ask(self, verb: str) -> RootResult:
        """Has a verb done and returns what came of it, its log lines now in ours.

        Raises RootServiceMissing, RootServiceFailed, and what the verb itself raises.
        """
        requests, results = self.spool / REQUESTS_FOLDER, self.spool / RESULTS_FOLDER
        if not requests.is_dir() or not results.is_dir():
            raise RootServiceMissing(
                f"{verb} needs root, and {self.spool} has no folders for the root service: it is not installed",
                hint="install and enable etcd-agent-root.path (docs/operations.md); or install etcdctl and etcdutl",
            )
        request = _request(verb)
        path = requests / f"{request.id}{SUFFIX}"
        started = time.monotonic()
        emit(log, logging.INFO, "root.asked", f"the root service is asked for {verb}", root_request=request.id)
        try:
            files.publish(path, msgspec.json.encode(request) + b"\n")
            result = self._awaited(results / path.name, verb, path)
        except PermissionError as error:
            raise RootServiceMissing(
                f"{verb} needs root, and {error.filename} can not be used by this user",
                hint="run it as root, by sudo; if it was: `systemd-tmpfiles --create`",
            ) from None
        finally:
            path.unlink(missing_ok=True)
        for line in result.log_lines:
            logs.replay(line)
        emit(log, logging.INFO, "root.answered", f"the root service answered {result.status}", root_request=request.id,
             status=result.status, duration_ms=round((time.monotonic() - started) * 1000))  # fmt: skip
        if result.error is not None:
            raise _error(result.error)
        return result

    def _awaited(self, path: Path, verb: str, request: Path) -> RootResult:
        ends_at, pause_s = time.monotonic() + self.timeout_s, POLL_FIRST_S
        while time.monotonic() < ends_at:
            try:
                content = files.read_owned(path, owner=path.parent.stat().st_uid, most_bytes=MOST_RESULT_BYTES + 1)
                return root_request.decode_result(content)
            except FileNotFoundError:
                time.sleep(pause_s)
                pause_s = min(POLL_MOST_S, pause_s * 1.5)
        state = "did not take the request: is it enabled?" if os.path.lexists(request) else "did not finish"
        raise RootServiceFailed(f"{verb}: the root service {state}, after {self.timeout_s:g} s", hint=UNIT_HINT)


def _request(verb: str) -> RootRequest:
    context = trace.current()
    return RootRequest(
        id=f"{verb}-{trace.new_span_id()}",
        verb=verb,
        trace_id=context.get("trace_id") or trace.new_trace_id(),
        op_id=context.get("op_id", ""),
        span_id=context.get("span_id", ""),
    )


def _error(told: ErrorResult) -> AgentError:
    """What the verb raised in the other process, as an error of the same kind where that has one."""
    if told.code == EtcdProcessUnclear.code:
        reason = told.message.partition("[")[2].partition("]")[0]
        return EtcdProcessUnclear(told.message, reason=reason, hint=told.hint)
    for kind in KINDS:
        if kind.code == told.code:
            return kind(told.message, hint=told.hint)
    return RootServiceFailed(told.message, hint=told.hint or UNIT_HINT)
