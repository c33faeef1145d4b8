"""`member list`: each member with its health as the guard judges it. It reads, and needs no daemon."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from agent import bootstrap_ports
from agent.cli import platform_part, tables
from agent.cli.reading import reading
from agent.domain import member_roster
from agent.domain.cluster import hex_id
from agent.domain.member_roster import Row
from agent.domain.node_loss import NodeLoss
from agent.domain.node_loss import judge as judge_loss
from agent.errors import CommandMissing
from agent.node import Node

if TYPE_CHECKING:
    from agent.operations.membership_view import Records, Sight

COLUMNS = ("MEMBER", "NAME", "PEER URL", "ROLE", "HEALTH", "LAG", "DB SIZE", "ETCD", "ALARMS", "INSTANCE", "AGENT")
UNKNOWN = "-"


@click.group()
def member() -> None:
    """The members of this node's etcd cluster."""


@member.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_(flags: tuple[str, ...], as_json: bool) -> int:
    """Who is there, how each one is, and whose node it is.

    Each member is asked by itself; one that does not answer is a row as well. Exit 0 when the list could be had.
    """
    with reading(flags) as node:
        sight, records = _look(node)
        rows = member_roster.rows(sight.assessed, records.found)
        document = _document(node, sight, records, rows)
    if as_json:
        tables.print_json(document)
    else:
        _print(document, rows, judge_loss(sight.assessed, sight.size))
    return 0


def _look(node: Node) -> "tuple[Sight, Records]":
    from agent.operations import membership_view

    etcd, keys = bootstrap_ports.make_etcd(node), bootstrap_ports.make_keys(node)
    try:
        own = etcd.status()
    except CommandMissing as error:
        raise platform_part.with_tools(node, error) from None
    sight = membership_view.look(etcd, keys, own, lambda url: bootstrap_ports.make_etcd(node, url))
    return sight, membership_view.records(keys, sight)


def _document(node: Node, sight: "Sight", records: "Records", rows: Sequence[Row]) -> dict[str, Any]:
    leader = sight.assessed.leader
    return {
        "cluster": node.config.cluster, "cluster_id": hex_id(sight.cluster.own.cluster_id),
        "confirmed": sight.confirmed, "leader": None if leader is None else hex_id(leader.member_id),
        "term": None if leader is None else leader.term, "no_leader": sight.assessed.no_leader, "size": sight.size,
        "records_unread": records.unread, "stray_alarms": member_roster.stray_alarms(sight.assessed.view),
        "members": [_member(row, sight.cluster.own.member_id) for row in rows],
    }  # fmt: skip


def _member(row: Row, own_id: int) -> dict[str, Any]:
    listed = row.judged.seat.member
    return {
        "member_id": hex_id(listed.member_id), "name": listed.name, "peer_urls": list(listed.peer_urls),
        "client_urls": list(listed.client_urls), "role": row.role, "is_learner": listed.is_learner,
        "is_leader": row.is_leader, "is_this_node": listed.member_id == own_id, "health": row.condition,
        "why": row.judged.why, "lag_entries": row.lag_entries, "db_size_bytes": row.db_size_bytes,
        "version": row.version, "alarms": list(row.alarms), "instance_id": row.instance_id,
        "agent_version": row.agent_version, "former_instances": [one.instance_id for one in row.records[1:]],
    }  # fmt: skip


def _print(document: Mapping[str, Any], rows: Sequence[Row], loss: NodeLoss) -> None:
    view = tables.table(*COLUMNS, right=("LAG", "DB SIZE"))
    for row, told in zip(rows, document["members"], strict=True):
        style = "" if row.condition == "healthy" and not row.alarms else "red"
        view.add_row(*(tables.plain(cell, style) for cell in _cells(row, told)))
    screen = tables.console()
    screen.print(view)
    screen.print()
    notes = [f"{told['name'] or told['member_id']} {told['why']}" for told in document["members"] if told["why"]]
    notes += [f"no common leader: {document['no_leader']}"] if document["no_leader"] else []
    notes += [] if document["confirmed"] else ["the list was not confirmed by a linearizable read: it may be old"]
    notes += [f"alarm of no listed member: {one}" for one in document["stray_alarms"]]
    notes += [f"no records of instances: {document['records_unread']}"] if document["records_unread"] else []
    for note in notes:
        screen.print(tables.plain(note, "red"))
    screen.print(tables.plain(f"can it lose a node now: {loss.told}"))


def _cells(row: Row, told: Mapping[str, Any]) -> Sequence[str]:
    return (
        told["member_id"],
        f"{told['name'] or UNKNOWN}{' (this node)' if told['is_this_node'] else ''}",
        ", ".join(told["peer_urls"]),
        "leader" if row.is_leader else row.role,
        row.condition,
        UNKNOWN if row.lag_entries is None else str(row.lag_entries),
        UNKNOWN if row.db_size_bytes is None else tables.size(row.db_size_bytes),
        row.version or UNKNOWN,
        ", ".join(row.alarms) or UNKNOWN,
        row.instance_id or UNKNOWN,
        row.agent_version or UNKNOWN,
    )
