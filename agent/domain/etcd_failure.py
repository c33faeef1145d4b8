"""What a failed call of etcdctl means: its exit code and stderr as one of our errors.

The texts are those of etcd's api/v3rpc/rpctypes/error.go, the same from 3.4 to 3.7.
"""

import json
import re

from agent.errors import (
    BadInput,
    EtcdAlreadyDone,
    EtcdError,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    NoSpace,
)

EXIT_BAD_ARGUMENTS = 128
# What a refusal means depends on what was asked: a member that is not found is removed, but not promoted.
ALREADY_DONE = {
    "member remove": ("member not found",),
    "member add": ("peer urls already exists", "member id already exist"),
    "member promote": ("can only promote a learner member",),
}
WRITES = ("member add", "member remove", "member promote", "member update", "move-leader", "put", "txn", "lease")
RETRYABLE = (
    "unhealthy cluster",
    "etcdserver: no leader",
    "leader changed",
    "request timed out",
    "server stopped",
    "too many requests",
    "in sync with leader",
    "waiting for the applied index took too long",
    "connection refused",
    "failed to get the status of endpoint",
    "failed to fetch endpoints",
    "rpc error: code = unavailable",
    "unexpected eof",
)
UNKNOWN_OUTCOME = ("context deadline exceeded", "deadlineexceeded", "panic:")
# Where etcd gave up waiting, or the connection broke after the request left: a write may still happen.
UNKNOWN_FOR_WRITES = (
    *UNKNOWN_OUTCOME, "request timed out", "server stopped", "transport is closing", "connection reset", "broken pipe",
    "closed network connection", "eof",
)  # fmt: skip
CERTIFICATE = ("tls:", "x509:", "certificate")
# What versions say where the other end hangs up: at a certificate that it does not take, or at the wrong scheme.
HUNG_UP = (
    "broken pipe", "server preface", "connection closed", "closed network connection", "connection reset",
    "subconns are in transientfailure",
)  # fmt: skip
REASONS = ("Error:", "Failed", "panic:", "fatal error:")
_WRAPPERS = re.compile(r"\A(?:transport: |latest balancer error: |last connection error: )+")


def classify(what: str, endpoint: str, returncode: int, stderr: str) -> EtcdError | BadInput | NoSpace:
    """The error that etcdctl's exit and its stderr mean."""
    reason = explain(stderr)
    lowered, last = reason.lower(), _last_error_line(stderr).lower()
    message = f"`etcdctl {what}` on {endpoint} failed (exit {returncode}): {reason}"
    if returncode < 0:
        return EtcdOutcomeUnknown(message, hint="something killed etcdctl: look for the OOM killer in `dmesg`")
    if returncode == EXIT_BAD_ARGUMENTS:
        of_files = any(text in lowered for text in ("open ", "read ", *CERTIFICATE))
        hint = "check etcd.ca_cert, etcd.cert, etcd.key and that they can be read" if of_files else ""
        return BadInput(message, hint=hint or "is etcdctl's version 3.4 to 3.7? see `etcdctl version`")
    if any(text in lowered for text in CERTIFICATE):
        return EtcdError(message, hint="etcd.ca_cert, etcd.cert and etcd.key must belong to this cluster and be valid")
    if "no space left on device" in last:
        return NoSpace(message, hint="make room on this node's disk")
    hint = _where_to_look(endpoint, hung_up=any(text in lowered for text in HUNG_UP))
    # Also where an earlier try was refused: what timed out last may have been sent.
    if what.startswith(WRITES) and any(text in last for text in UNKNOWN_FOR_WRITES):
        return EtcdOutcomeUnknown(message, hint=hint)
    if any(text in lowered for text in RETRYABLE):
        return EtcdUnavailable(message, hint=hint)
    if any(text in lowered for text in ALREADY_DONE.get(what, ())):
        return EtcdAlreadyDone(message)
    if any(text in lowered for text in UNKNOWN_OUTCOME):
        return EtcdOutcomeUnknown(message, hint=hint)
    return EtcdError(message, hint=hint)


def explain(stderr: str) -> str:
    """The `Error:` line and, where the JSON warnings before it name a deeper cause, that cause."""
    line = _last_error_line(stderr)
    causes = [cause for warning in stderr.splitlines() if (cause := _cause_in_warning(warning))]
    deeper = next((cause for cause in reversed(causes) if cause not in line), "")
    return f"{line} ({deeper})" if deeper else line or "it printed no reason"


def _last_error_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("{")]
    errors = [line for line in lines if line.startswith(REASONS)]
    return (errors or lines or [""])[-1].removeprefix("Error: ")[:500]


def _cause_in_warning(line: str) -> str:
    if not line.startswith("{"):
        return ""
    try:
        text = str(json.loads(line).get("error", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
    _, separator, innermost = text.rpartition("desc = ")
    return _WRAPPERS.sub("", innermost.strip('" '))[:300] if separator else ""


def _where_to_look(endpoint: str, *, hung_up: bool) -> str:
    certificates = "does etcd take etcd.cert and etcd.key, and is it https:// where etcd has TLS? " if hung_up else ""
    return f"is etcd running and healthy at {endpoint}? {certificates}`etcd-agent status` shows what this node sees"
