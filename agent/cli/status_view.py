"""How `status` looks to people: the platform, a line for each part, the members, every problem and what to check."""

from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any

from agent.cli import loss_part, platform_part, schedule_part, tables
from agent.cli.operation_views import progress_text

if TYPE_CHECKING:
    from rich.table import Table


def print_screen(document: Mapping[str, Any]) -> None:
    """The whole screen."""
    parts: Mapping[str, Any] = document["parts"]
    bad = {problem["part"] for problem in document["problems"]}
    screen = tables.console()
    screen.print(tables.plain(f"node {document['node']}, cluster {document['cluster']}, {document['at']}\n", "bold"))
    screen.print(platform_part.block(parts["platform"]))
    screen.print()
    view = tables.table("PART", "STATE", "WHAT")
    for name, describe in DESCRIPTIONS.items():
        made = parts[name]
        view.add_row(
            name, tables.coloured(_state(name, made, bad)), tables.plain("" if made is None else describe(made))
        )
    screen.print(view)
    if parts["cluster"] is not None:
        screen.print()
        screen.print(_members(parts["cluster"]))
    why_not = loss_part.why_not(parts[loss_part.PART])
    if document["problems"] or why_not:
        screen.print()
    if why_not:
        screen.print(tables.plain(why_not, "yellow"))
    for problem in document["problems"]:
        screen.print(tables.error_lines(problem["part"], problem["message"], problem["hint"]))


def _state(name: str, made: Mapping[str, Any] | None, bad: Container[str]) -> str:
    """`no` is the answer of the part `loss` alone: a cluster of one is as it was meant to be, and can lose nobody."""
    if name in bad:
        return "problem"
    if made is None or made.get("name", "") is None:
        return "unknown"
    return "ok" if made.get("can_lose_one", True) else "no"


def _members(cluster: Mapping[str, Any]) -> "Table":
    view = tables.table(
        "MEMBER", "NAME", "ROLE", "VERSION", "DB SIZE", "APPLIED", "ALARMS", "CLIENT URL", right=("DB SIZE", "APPLIED")
    )
    for member in cluster["members"]:
        answers = member["answers"]
        cells = (
            member["member_id"],
            f"{member['name']}{' (this node)' if member['is_this_node'] else ''}",
            _role(member),
            member["version"] if answers else "no answer",
            tables.size(member["db_size_bytes"]) if answers else "",
            str(member["applied_index"]) if answers else "",
            ", ".join(member["alarms"]),
            ", ".join(member["client_urls"]),
        )
        style = "" if answers and not member["alarms"] else "red"
        view.add_row(*(tables.plain(cell, style) for cell in cells))
    return view


def _role(member: Mapping[str, Any]) -> str:
    if not member["is_started"]:
        return "never started"
    if member["is_learner"]:
        return "learner"
    return "leader" if member.get("is_leader") else "voter"


def _daemon(part: Mapping[str, Any]) -> str:
    return f"runs, pid {part['pid']}" if part["is_there"] else "not running"


def _tools(part: Mapping[str, Any]) -> str:
    where = {"configured": "by etcd.tools_dir", "path": "on PATH", "copied": f"copied out of {part['copied_from']}"}
    return f"etcdctl {part['etcdctl_version']} in {part['folder']}, {where[part['source']]}"


def _member(part: Mapping[str, Any]) -> str:
    role = "leader" if part["is_leader"] else f"follows {part['leader']}" if part["leader"] else "no leader"
    return (
        f"{part['member_id']} at {part['endpoint']}, etcd {part['version']}, {role}, "
        f"{tables.size(part['db_size_bytes'])}, revision {part['revision']}"
    )


def _cluster(part: Mapping[str, Any]) -> str:
    return str(part["summary"])


def _snapshot(part: Mapping[str, Any]) -> str:
    limit = tables.age(part["max_age_s"])
    if part["newest_good"] is None:
        return f"none is good; {part['store']}"
    return f"{part['newest_good']}, {tables.age(part['age_s'])} old (limit {limit}); {part['store']}"


def _outbox(part: Mapping[str, Any]) -> str:
    return f"{part['kept']} wait for the store in {part['folder']}" if part["kept"] else "empty"


def _operations(part: Mapping[str, Any]) -> str:
    doing = [
        f"{one['operation']} {one['op_id']} {state}"
        + (f", {progress_text(one['progress'])}" if one["progress"] else "")
        for state in ("running", "waiting")
        for one in part[state]
    ]
    queued = len(part["incoming"])
    return "; ".join([*doing, *([f"{queued} queued"] if queued else [])]) or "none running, none queued"


DESCRIPTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "platform": platform_part.line,
    "daemon": _daemon,
    "tools": _tools,
    "member": _member,
    "cluster": _cluster,
    loss_part.PART: loss_part.line,
    "snapshot": _snapshot,
    "schedule": schedule_part.line,
    "outbox": _outbox,
    "operations": _operations,
}
