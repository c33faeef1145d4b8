"""What the agent may ask of the root service, and what that answers: a closed list of verbs, none with a path."""

from typing import Annotated, Any, Literal

import msgspec

from agent.domain.request import ErrorResult, OpId, SpanId, TraceId
from agent.errors import BadInput

COPY_TOOLS = "copy-tools"
VERBS = (COPY_TOOLS,)
REQUESTS_FOLDER = "root"
RESULTS_FOLDER = "root-done"
SUFFIX = ".json"
MOST_RESULT_BYTES = 1024 * 1024
MOST_LOG_LINES = 100


class RootRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request. `id` is the idempotency key; `op_id` names the operation that needs it, if there is one."""

    id: OpId
    verb: Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z-]{0,31}\Z")]
    trace_id: TraceId
    op_id: Annotated[str, msgspec.Meta(pattern=r"\A([a-z0-9-]{8,64})?\Z")] = ""
    span_id: SpanId = ""
    schema: Literal[1] = 1


class RootResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of a request. `log_lines` are the root service's own, for the agent's log file."""

    id: str
    verb: str
    trace_id: str
    op_id: str
    status: Literal["succeeded", "failed", "rejected"]
    started_at: str
    finished_at: str
    output: dict[str, Any] = {}
    error: ErrorResult | None = None
    log_lines: tuple[dict[str, Any], ...] = ()
    schema: Literal[1] = 1


def decode(content: bytes, identifier: str) -> RootRequest:
    """Reads the request file of that id. Raises BadInput for whatever is wrong with it."""
    try:
        request = msgspec.json.decode(content, type=RootRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            f"the request is not valid: {error}", hint="is the agent of the root service's version?"
        ) from None
    if request.id != identifier:
        raise BadInput(f"the file {identifier}{SUFFIX} holds the request {request.id}")
    if request.verb not in VERBS:
        raise BadInput(f"the verb {request.verb!r} does not exist", hint=f"verbs: {', '.join(VERBS)}")
    return request


def identifier_of(name: str) -> str:
    """The id that a file name in the spool stands for. Raises BadInput when it is none."""
    try:
        return msgspec.convert(name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else "", OpId)
    except msgspec.ValidationError:
        raise BadInput(f"{name!r} is no name of a request") from None


def decode_result(content: bytes) -> RootResult:
    """Reads a result file. Raises BadInput when it is damaged."""
    try:
        return msgspec.json.decode(content, type=RootResult)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the root service's result is not valid: {error}") from None
