"""How operations look to people: the list, one operation, and the result that a mutating command ends with."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.cli import tables
from agent.cli.asking import QUEUED, Answer
from agent.domain.request import ErrorResult, Record, Result, StepResult, parse_moment
from agent.errors import BadInput

SIZES = frozenset({"raw_size_bytes", "size_bytes"})


def row(state: str, record: Record, now: datetime) -> dict[str, Any]:
    """One operation as `ops list` has it; `since` is when it was asked for, or accepted again."""
    request, result = record.request, record.result
    since = record.acceptance.accepted_at if record.acceptance else request.requested_at
    made: dict[str, Any] = {
        "state": state, "op_id": request.op_id, "operation": request.operation, "since": since,
        "generation": record.generation, "attempt": record.attempt, "trace_id": request.trace_id,
        "duration_ms": took_ms(record, now), "error_code": "", "message": "",
    }  # fmt: skip
    if result is not None and result.error is not None:
        made |= {"error_code": result.error.code, "message": result.error.message}
    if state == "waiting" and (parking := record.parking) is not None:
        made |= {
            "message": parking.message, "rule": parking.rule, "hint": parking.hint, "waits_since": parking.since,
            "next_check_at": parking.next_check_at,
        }  # fmt: skip
    return made


def took_ms(record: Record, now: datetime) -> int | None:
    """What the steps took together, or how long it runs; None before it starts."""
    if record.result is not None:
        return _took_ms(record.result)
    if record.acceptance is None:
        return None
    accepted_at = _parsed(record.acceptance.accepted_at)
    return None if accepted_at is None else max(0, round((now - accepted_at).total_seconds() * 1000))


def print_list(rows: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """The table of `ops list`."""
    screen = tables.console()
    if not rows:
        screen.print("no operations")
        return
    view = tables.table("OP ID", "OPERATION", "STATE", "TRY", "AGE", "TOOK", "TRACE", "ERROR", right=("TRY",))
    for one in shown:
        took = one.get("duration_ms")
        cells = (
            one["op_id"], one.get("operation", ""), tables.coloured(one["state"]), _try(one),
            _age(one["since"], now),
            "" if took is None else tables.duration(took), one.get("trace_id", ""),
            tables.plain(_why(one), "yellow" if one.get("rule") else "red"),
        )  # fmt: skip
        view.add_row(*(cell if not isinstance(cell, str) else tables.plain(cell) for cell in cells))
    screen.print(view)
    if len(shown) < len(rows):
        screen.print(f"\n{len(rows) - len(shown)} older ones: `etcd-agent ops list --limit 0`", style="dim")


def print_operation(state: str, record: Record, progress: Mapping[str, Any], now: datetime) -> None:
    """The screen of `ops show`."""
    request, result, acceptance = record.request, record.result, record.acceptance
    screen = tables.console()
    rows: list[tables.Pair] = [
        ("operation", request.operation),
        ("op id", request.op_id),
        ("trace", request.trace_id),
        ("state", tables.coloured(state)),
        ("generation", str(record.generation) if record.generation > 1 else ""),
        ("attempt", str(record.attempt) if record.attempt else "none yet"),
        ("parameters", tables.shown(request.params)),
        ("asked by", f"SSM command {request.ssm_command_id}" if request.ssm_command_id else request.source),
        ("requested", _moment(request.requested_at, now)),
    ]
    if acceptance:
        rows.append(("accepted", f"{_moment(acceptance.accepted_at, now)}, may take {acceptance.timeout_s} s"))
    if state == "waiting" and (parking := record.parking) is not None:
        asked = "may go on as soon as its slot is free" if parking.may_go else f"[{parking.rule}] {parking.message}"
        rows += [
            ("waits for", asked), ("remedy", parking.hint), ("waits since", _moment(parking.since, now)),
            ("asked again", parking.next_check_at),
        ]  # fmt: skip
    elif result is None:
        rows.append(("progress", progress_text(progress)))
    else:
        rows.append(("finished", f"{_moment(result.finished_at, now)}, took {tables.duration(_took_ms(result))}"))
    screen.print(tables.pairs(rows))
    if result is not None:
        _print_result(result)
    for earlier in record.results:
        if earlier is not result:
            screen.print(tables.plain(_earlier(earlier), "dim"))
    screen.print(tables.plain(f"\nall its log lines: etcd-agent trace {request.trace_id}", "dim"))


def print_answer(answer: Answer, named: Sequence[tables.Pair] = ()) -> None:
    """What a mutating command ends with; `named` are the output's values that matter most, in words."""
    screen = tables.console()
    result = answer.record.result if answer.record else None
    rows: list[tables.Pair] = [
        ("state", tables.coloured(answer.state)),
        *named,
        ("op id", answer.op_id),
        ("trace", answer.trace_id),
    ]
    if result is None:
        if answer.parking is not None:
            rows += [
                ("waits for", f"[{answer.parking.rule}] {answer.parking.message}"),
                ("remedy", answer.parking.hint),
            ]
        screen.print(tables.pairs([*rows, ("progress", progress_text(answer.progress) if answer.progress else "")]))
        screen.print(tables.plain(f"\nit goes on without this command: etcd-agent ops show {answer.op_id}", "dim"))
        return
    screen.print(tables.pairs([*rows, ("took", f"{tables.duration(_took_ms(result))}{_attempt(result)}")]))
    if result.error is not None:
        _print_steps(result.steps)
        _print_error(result.error)
        tables.console(stderr=True).print(tables.plain(f"how far it came: etcd-agent trace {answer.trace_id}", "dim"))


def progress_text(progress: Mapping[str, Any]) -> str:
    """How far an operation is, in a few words."""
    if not progress:
        return QUEUED
    words = [f"step {progress.get('step', '')}"]
    done_bytes = progress.get("bytes")
    if isinstance(done_bytes, int) and done_bytes:
        words.append(tables.size(done_bytes))
    if progress.get("percent") is not None:
        words.append(f"{progress['percent']} %")
    return ", ".join([*words, *_speed_words(progress)])


def _speed_words(progress: Mapping[str, Any]) -> Iterator[str]:
    """Rate, ratio and the time left, as far as they are known; what is no number is left out."""
    if (rate := _number(progress, "rate_bytes_per_s")) is not None:
        yield f"{tables.size(round(rate))}/s"
    if (ratio := _number(progress, "ratio")) is not None:
        yield f"compressed {ratio:g}:1"
    if (eta_s := _number(progress, "eta_s")) is not None:
        yield f"{tables.age(eta_s)} left"


def _number(progress: Mapping[str, Any], name: str) -> float | None:
    value = progress.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _print_result(result: Result) -> None:
    screen = tables.console()
    _print_steps(result.steps)
    if result.output:
        screen.print()
        screen.print(tables.pairs((name.replace("_", " "), _value(name, it)) for name, it in result.output.items()))
    if result.error is not None:
        screen.print()
        screen.print(tables.error_lines(result.error.code, result.error.message, result.error.hint))


def _print_steps(steps: Sequence[StepResult]) -> None:
    if not steps:
        return
    view = tables.table("STEP", "STATUS", "TOOK", right=("TOOK",))
    for step in steps:
        view.add_row(tables.plain(step.name), tables.coloured(step.status), tables.duration(step.duration_ms))
    screen = tables.console()
    screen.print()
    screen.print(view)


def _print_error(error: ErrorResult) -> None:
    screen = tables.console(stderr=True)
    screen.print(tables.error_lines(error.code, error.message, error.hint))
    if error.retryable:
        screen.print("a later try may work", style="red")


def _value(name: str, value: Any) -> str:
    if name in SIZES and isinstance(value, int):
        return f"{tables.size(value)} ({value:,} bytes)"
    return tables.shown(value)


def _earlier(result: Result) -> str:
    error = f" {result.error.code}: {result.error.message}" if result.error else ""
    return f"\ngeneration {result.generation} {result.status} at {result.finished_at}, trace {result.trace_id}{error}"


def _moment(text: str, now: datetime) -> str:
    return f"{text} ({age} ago)" if (age := _age(text, now)) else text


def _age(text: str, now: datetime) -> str:
    moment = _parsed(text)
    return "" if moment is None else tables.since(moment, now)


def _parsed(text: str) -> datetime | None:
    """One odd time in a file must not hide the rest of it."""
    try:
        return parse_moment(text)
    except BadInput:
        return None


def _took_ms(result: Result) -> int:
    return sum(step.duration_ms for step in result.steps)


def _attempt(result: Result) -> str:
    return f", attempt {result.attempt}" if result.attempt > 1 else ""


def _why(one: Mapping[str, Any]) -> str:
    rule = one.get("rule")
    return f"[{rule}] {one['message']}" if rule else one.get("error_code") or one["message"]


def _try(one: Mapping[str, Any]) -> str:
    """Attempts of the newest generation, with the generation's number when it is not the first."""
    attempt, generation = one.get("attempt"), one.get("generation", 1)
    if attempt is None:
        return ""
    return f"{attempt}" if generation == 1 else f"{generation}.{attempt}"
