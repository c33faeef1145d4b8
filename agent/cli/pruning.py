"""`snapshot prune` but for the daemon's part: the plan as people see it, and a bucket pruned by an operator."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent import bootstrap_ports
from agent.cli import tables
from agent.node import Node
from agent.operations import prune


def print_plan(node: Node, as_json: bool) -> None:
    """What would go now and why, changing nothing."""
    ports = bootstrap_ports.make_prune_ports(node, bootstrap_ports.make_store(node))
    made = prune.plan(ports, node.config.cluster, datetime.now(UTC))
    document = {"dry_run": True, "store": ports.store.describe(), **made.document()}
    _print(document, as_json, "would go", "nothing was changed")


def prune_here(node: Node, as_json: bool) -> None:
    """Prunes in this process, under the credentials of who typed it: no node may delete in a bucket."""
    ports = bootstrap_ports.make_prune_ports(node, bootstrap_ports.make_store(node))
    made = prune.plan(ports, node.config.cluster, datetime.now(UTC))
    prune.carry_out(ports, made)
    _print({"dry_run": False, "store": ports.store.describe(), **made.document()}, as_json, "removed", "done")


def _print(document: Mapping[str, Any], as_json: bool, going: str, end: str) -> None:
    if as_json:
        tables.print_json(document)
        return
    screen = tables.console()
    view = tables.table("ID", "CLASS", "", "WHY")
    view.columns[0].no_wrap = True
    for name, word in (("kept", "stays"), ("removed", going)):
        for row in document[name]:
            style = "" if name == "kept" else "red"
            view.add_row(row["snapshot_id"], row["retention_class"], tables.plain(word, style), row["reason"])
    screen.print(tables.plain(document["store"], "dim"), soft_wrap=True)
    screen.print(view)
    for key in document["unlisted_removed"]:
        screen.print(tables.plain(f"{key}: {going}, it has no manifest and is no backup"))
    for message in document["damaged_manifests"]:
        screen.print(tables.error_lines("damaged", message, "it stays, and so does all data without a manifest"))
    kept, removed = len(document["kept"]), len(document["removed"])
    screen.print(tables.plain(f"{kept} stay, {removed} {going}; {end}", "bold"))
