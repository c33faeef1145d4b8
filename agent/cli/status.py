"""`status`: one screen of what this node sees; what does not answer is told, with what to check next."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent import bootstrap_ports
from agent.adapters import outbox
from agent.adapters.spool import SUFFIX
from agent.cli import loss_part, operation_views, platform_part, schedule_part, status_view, tables
from agent.cli.reading import SUDO, is_permission, reading
from agent.domain import node_loss
from agent.domain.cluster import EndpointStatus, hex_id
from agent.domain.cluster_health import Answer, ClusterView, Problem, cluster_problems, own_problems
from agent.domain.request import parse_moment
from agent.errors import (
    EXIT_FAILED,
    EXIT_OK,
    AgentError,
    BadInput,
    CommandMissing,
    EtcdOutcomeUnknown,
    EtcdUnavailable,
    SnapshotInvalid,
)
from agent.node import Node

if TYPE_CHECKING:
    from agent.operations.membership_view import Sight

Seen = TypeVar("Seen")
MOST_PID_DIGITS = 7
ETCD_HINTS = {
    "member": "is etcd running there? `systemctl status etcd`, or `crictl ps --name etcd`; its own log says why not",
    "cluster": "this takes a quorum, and the local member answers: does it know a leader, is it overloaded?",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def status(flags: tuple[str, ...], as_json: bool) -> int:
    """What this node sees, on one screen.

    Its daemon, member, cluster and whether that can lose a node now, newest good snapshot, schedule and operations.
    Exit 0 when all is well, else 1.
    """
    now = datetime.now(UTC)
    problems: list[Problem] = []
    with reading(flags) as node:
        document: dict[str, Any] = {
            "node": node.config.node.name,
            "cluster": node.config.cluster,
            "at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "parts": {
                "platform": platform_part.describe(node, problems),
                "daemon": _looked("daemon", problems, lambda: _daemon(node, problems)),
                **_etcd(node, problems),
                "snapshot": _looked("snapshot", problems, lambda: _snapshot(node, problems, now)),
                "schedule": _looked("schedule", problems, lambda: schedule_part.describe(node, problems, now)),
                "outbox": _outbox(node, problems),
                "operations": _looked("operations", problems, lambda: _operations(node, problems, now)),
            },
        }
    document["healthy"] = not problems
    document["problems"] = [{"part": one.part, "message": one.message, "hint": one.hint} for one in problems]
    if as_json:
        tables.print_json(document)
    else:
        status_view.print_screen(document)
    return EXIT_FAILED if problems else EXIT_OK


def _looked(part: str, problems: list[Problem], look: Callable[[], Seen]) -> Seen | None:
    """Whatever stops a look at one part is a problem of that part; the other parts are still looked at."""
    try:
        return look()
    except PermissionError as error:
        problems.append(Problem(part, f"{error.filename}: permission denied", SUDO))
    except AgentError as error:
        silent = isinstance(error, EtcdUnavailable | EtcdOutcomeUnknown)
        hint = ETCD_HINTS.get(part, error.hint) if silent else error.hint
        problems.append(Problem(part, error.message, SUDO if is_permission(error) else hint))
    return None


def _daemon(node: Node, problems: list[Problem]) -> dict[str, Any]:
    there = node.daemon_is_there
    if not there:
        hint = "`systemctl status etcd-agent`, then `journalctl -u etcd-agent`; `systemctl start etcd-agent`"
        problems.append(Problem("daemon", "no daemon is running: nothing that is asked for will be done", hint))
    return {"is_there": there, "pid": _pid(node.paths.daemon_lock) if there else None}


def _pid(lock: Path) -> int | None:
    text = lock.read_text(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_PID_DIGITS else None


def _etcd(node: Node, problems: list[Problem]) -> dict[str, Any]:
    own = _looked("member", problems, lambda: _own(node))
    if own is None:
        problems += platform_part.when_etcd_is_silent(node)
        return {"tools": None, "member": None, "cluster": None, loss_part.PART: None}
    problems += own_problems(own)
    seen: dict[str, Any] = {"tools": _tools(node), "member": _member(own)}
    sight = _looked("cluster", problems, lambda: _sight(node, own))
    if sight is None:
        return seen | {"cluster": None, loss_part.PART: loss_part.document(node_loss.unlisted(own))}
    problems += cluster_problems(sight.cluster)
    return seen | {"cluster": _cluster(sight.cluster), loss_part.PART: loss_part.describe(sight, problems)}


def _tools(node: Node) -> dict[str, Any] | None:
    """Where etcdctl is taken from; what stands against it is the member's problem, which it asks."""
    with contextlib.suppress(AgentError, PermissionError):
        seen = bootstrap_ports.make_tools(node).describe()
        return {
            "source": seen.source, "folder": seen.folder, "etcdctl_version": seen.version,
            "copied_from": seen.copied_from or None, "copied_at": seen.copied_at or None,
        }  # fmt: skip
    return None


def _own(node: Node) -> EndpointStatus:
    try:
        return bootstrap_ports.make_etcd(node).status()
    except CommandMissing as error:
        raise platform_part.with_tools(node, error) from None


def _sight(node: Node, own: EndpointStatus) -> "Sight":
    from agent.operations import membership_view

    etcd, keys = bootstrap_ports.make_etcd(node), bootstrap_ports.make_keys(node)
    return membership_view.look(etcd, keys, own, lambda url: bootstrap_ports.make_etcd(node, url))


def _member(own: EndpointStatus) -> dict[str, Any]:
    return {
        "endpoint": own.endpoint, "member_id": hex_id(own.member_id), "version": own.version,
        "is_leader": own.is_leader, "is_learner": own.is_learner, "leader": hex_id(own.leader) if own.leader else None,
        "db_size_bytes": own.db_size_bytes, "revision": own.revision, "raft_term": own.raft_term,
        "errors": list(own.errors),
    }  # fmt: skip


def _cluster(view: ClusterView) -> dict[str, Any]:
    return {
        "cluster_id": hex_id(view.own.cluster_id), "summary": view.describe(), "voters": len(view.voters),
        "healthy_voters": view.healthy_voters, "quorum": view.quorum,
        "members": [_listed(answer, view) for answer in view.answers],
    }  # fmt: skip


def _listed(answer: Answer, view: ClusterView) -> dict[str, Any]:
    member, own = answer.member, answer.status
    return {
        "member_id": hex_id(member.member_id), "name": member.name, "client_urls": list(member.client_urls),
        "peer_urls": list(member.peer_urls), "is_learner": member.is_learner, "is_started": member.is_started,
        "is_this_node": member.member_id == view.own.member_id,
        "alarms": [alarm.kind.name for alarm in view.alarms if alarm.member_id == member.member_id],
        "answers": own is not None, **({} if own is None else _member(own)), "silence": answer.silence,
        "applied_index": own.raft_applied_index if own else None,
    }  # fmt: skip


def _snapshot(node: Node, problems: list[Problem], now: datetime) -> dict[str, Any]:
    from agent.operations import catalogue

    damaged: list[SnapshotInvalid] = []
    store = bootstrap_ports.make_store(node)
    newest = catalogue.newest_good(store, node.config.cluster, damaged=damaged)
    limit_s = node.config.snapshot.max_age_s
    age_s = None if newest is None else (now - parse_moment(newest.manifest.requested_at)).total_seconds()
    hint = "`etcd-agent snapshot create` takes one; `etcd-agent ops list` shows why there is none"
    if age_s is None:
        problems.append(Problem("snapshot", "there is no good snapshot", hint))
    elif age_s > limit_s:
        old = f"the newest good snapshot is {tables.age(age_s)} old, more than {tables.age(limit_s)}"
        problems.append(Problem("snapshot", old, hint))
    problems += [Problem("snapshot", f"damaged: {error.message}", error.hint) for error in damaged]
    return {
        "store": store.describe(), "max_age_s": limit_s, "age_s": None if age_s is None else round(age_s),
        "newest_good": None if newest is None else newest.manifest.snapshot_id,
    }  # fmt: skip


def _outbox(node: Node, problems: list[Problem]) -> dict[str, Any] | None:
    """What the store did not take yet. Asked of the folder alone, so that it is told while the store is away."""
    folder = node.paths.outbox
    try:
        kept = outbox.count(folder)
    except PermissionError as error:
        problems.append(Problem("outbox", f"{error.filename}: permission denied", SUDO))
        return None
    if kept:
        waits = f"{kept} verified snapshot{'s' * (kept > 1)} that the store did not take: gone with this node"
        hint = (
            "mend the store, `etcd-agent ops list` says why; it is offered again by itself, `submit outbox` does it now"
        )
        problems.append(Problem("outbox", waits, hint))
    return {"kept": kept, "folder": str(folder)}


def _operations(node: Node, problems: list[Problem], now: datetime) -> dict[str, Any]:
    return {state: _rows(node, state, problems, now) for state in ("running", "waiting", "incoming")}


def _rows(node: Node, state: str, problems: list[Problem], now: datetime) -> list[dict[str, Any]]:
    rows = []
    if not (node.paths.spool / state).exists():
        return []  # no agent ever ran here, which is told as the daemon's absence
    for name in node.spool.names(state):
        op_id = name.removesuffix(SUFFIX)
        try:
            row = operation_views.row(state, node.spool.read(state, op_id), now)
        except FileNotFoundError:
            continue  # it moved on while we looked
        except BadInput as error:
            problems.append(Problem("operations", f"{state}/{name} is damaged: {error.message}", "remove that file"))
            continue
        rows.append(row | {"progress": node.spool.read_progress(op_id)})
    return rows
