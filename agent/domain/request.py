"""What may be asked of an agent, and the record that a request becomes: one file that moves through the spool."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from agent.errors import BadInput

SCHEMA = 1
MOST_REQUEST_BYTES = 64 * 1024
MOST_ATTEMPTS = 3
MOST_OUTPUT_DEPTH = 32
MOST_AHEAD = timedelta(days=1)

OpId = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{8,64}\Z")]
TraceId = Annotated[str, msgspec.Meta(pattern=r"\A(?!0{32})[0-9a-f]{32}\Z")]
SpanId = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{16})?\Z")]
Moment = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
Status = Literal["succeeded", "failed", "refused"]
Slot = Literal["backup", "membership", "restore"]

SNAPSHOT_ID_PATTERN = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"


@dataclass(frozen=True)
class OperationKind:
    """What the daemon has to know of an operation: its slot, whether SSM may ask, its parameters' patterns."""

    name: str
    slot: Slot
    ssm_may_ask: bool
    params: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


OPERATIONS: Mapping[str, OperationKind] = {
    kind.name: kind
    for kind in (
        OperationKind(
            "snapshot", "backup", ssm_may_ask=True, params={"emergency": "true|false", "scheduled": "true|false"}
        ),
        OperationKind(
            "verify",
            "backup",
            ssm_may_ask=True,
            params={"id": f"latest|all|{SNAPSHOT_ID_PATTERN}", "level": "structure|content", "force": "true|false"},
            required=frozenset({"id"}),
        ),
        OperationKind("prune", "backup", ssm_may_ask=False),
        OperationKind("outbox", "backup", ssm_may_ask=False),
        OperationKind("schedule", "backup", ssm_may_ask=False),
    )
}


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked. `op_id` is the idempotency key; `requested_at` (UTC) names what comes out of it."""

    op_id: OpId
    operation: Annotated[str, msgspec.Meta(max_length=64)]
    trace_id: TraceId
    requested_at: Moment
    params: dict[str, Annotated[str, msgspec.Meta(max_length=1024)]] = {}
    span_id: SpanId = ""
    source: Literal["cli", "ssm", "node"] = "cli"
    ssm_command_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F-]{0,64}\Z")] = ""

    def same_work_as(self, other: "Request") -> bool:
        """Whether both ask for the same thing; trace and origin may differ."""
        return (self.operation, self.params) == (other.operation, other.params)


class StepResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named step of an attempt."""

    name: str
    status: Status
    duration_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ErrorResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operation did not succeed, and what to check next."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of one generation of an operation."""

    op_id: str
    generation: int
    trace_id: str
    operation: str
    status: Status
    attempt: int
    started_at: str
    finished_at: str
    steps: tuple[StepResult, ...] = ()
    output: dict[str, Any] = {}
    error: ErrorResult | None = None
    schema: Literal[1] = 1


class Acceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the daemon took the request, and its deadline as seconds of the boot clock of that boot."""

    accepted_at: str
    boot_id: str
    deadline_boot_s: float
    timeout_s: int


class Parking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operation waits for the cluster and what would let it go; of several, the lowest priority comes first."""

    rule: str
    message: str
    hint: str
    priority: int
    since: str
    checked_at: str
    next_check_at: str
    may_go: bool = False


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spool file: the request, how far it got, and the results of its generations, the newest last."""

    request: Request
    generation: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    attempt: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    acceptance: Acceptance | None = None
    results: tuple[Result, ...] = ()
    committed: bool = False  # it passed the point from which it can not be cancelled any more
    parking: Parking | None = None
    schema: Literal[1] = 1

    @property
    def result(self) -> Result | None:
        """The result of this generation, if it ended."""
        last = self.results[-1] if self.results else None
        return last if last and last.generation == self.generation else None


def encode(record: Record) -> bytes:
    """The bytes of a spool file."""
    return msgspec.json.encode(record) + b"\n"


def decode(content: bytes) -> Record:
    """Reads a spool file. Raises BadInput for whatever is wrong with it."""
    try:
        record = msgspec.json.decode(content, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the request file is not valid: {error}", hint="use `etcd-agent submit`") from None
    # What was just shallow enough to be read may be too deep to be written by the next one, who must not fail by it.
    if any(_is_deeper(result.output, MOST_OUTPUT_DEPTH) for result in record.results):
        raise BadInput(f"the request file has an output that is nested more than {MOST_OUTPUT_DEPTH} deep")
    check(record.request)
    return record


def check(request: Request) -> None:
    """Raises BadInput when the operation or one of its parameters is unknown or malformed."""
    kind = OPERATIONS.get(request.operation)
    if kind is None:
        raise BadInput(
            f"operation {request.operation!r} does not exist", hint=f"operations: {', '.join(sorted(OPERATIONS))}"
        )
    if request.source == "ssm" and not kind.ssm_may_ask:
        raise BadInput(f"operation {kind.name!r} can not be asked for by SSM", hint="run it on the node")
    for name, value in request.params.items():
        if name not in kind.params:
            known = ", ".join(sorted(kind.params)) or "none"
            raise BadInput(f"{kind.name}: parameter {name!r} does not exist", hint=f"parameters: {known}")
        _check_value(kind, name, value)
    if missing := sorted(kind.required - request.params.keys()):
        raise BadInput(f"{kind.name}: parameter {missing[0]!r} is missing", hint=f"give --param {missing[0]}=…")
    parse_moment(request.requested_at)


def make(**fields: Any) -> Request:
    """Builds a request out of untrusted values. Raises BadInput."""
    try:
        request = msgspec.convert({name: value for name, value in fields.items() if value is not None}, Request)
    except msgspec.ValidationError as error:
        raise BadInput(f"the request is not valid: {error}", hint="see `etcd-agent submit --help`") from None
    check(request)
    return request


def check_not_ahead(requested_at: str, now: datetime) -> None:
    """Raises BadInput for a time to come: what bears it would be the latest snapshot until that day."""
    if parse_moment(requested_at) - now > MOST_AHEAD:
        raise BadInput(
            f"the request is of {requested_at}, but here it is {format_moment(now)}",
            hint="is that time right? if it is, this node's clock is wrong: `timedatectl`",
        )


def parse_moment(text: str) -> datetime:
    """Reads `YYYY-MM-DDTHH:MM:SSZ`, 1970 or later. Raises BadInput when there is no such time."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or moment.timestamp() < 0:
        raise BadInput(f"{text!r} is not a time since 1970", hint="write UTC as 2026-01-31T12:00:00Z")
    return moment


def is_op_id(text: str) -> bool:
    """Whether a name can be an operation's: then it is safe as the name of a file, too."""
    try:
        msgspec.convert(text, OpId)
    except msgspec.ValidationError:
        return False
    return True


def format_moment(moment: datetime) -> str:
    """Writes a time the way requests, results and manifests hold it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_value(kind: OperationKind, name: str, value: str) -> None:
    if not re.fullmatch(kind.params[name], value):
        raise BadInput(
            f"{kind.name}: parameter {name!r} has a value that is not allowed",
            hint=f"allowed: {kind.params[name]}",
        )


def _is_deeper(value: object, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most < 0 or any(_is_deeper(one, most - 1) for one in inner)


def slot_is_free(slot: Slot, busy: Container[str]) -> bool:
    """Whether an operation of that slot may start now: one each side by side, `restore` alone."""
    if slot == "restore":
        return not any(other in busy for other in ("backup", "membership", "restore"))
    return slot not in busy and "restore" not in busy
