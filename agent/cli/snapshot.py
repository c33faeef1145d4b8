"""`snapshot`: take one, list them, show one, download one, verify them, prune them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from agent import bootstrap_ports
from agent.cli import asking, operation_views, progress, snapshot_views, tables
from agent.cli.reading import reading
from agent.domain.snapshot import latest_good
from agent.domain.soundness import why_not_good
from agent.errors import EXIT_OK, BadInput, SnapshotInvalid
from agent.node import load_node

Decorated = Callable[..., Any]


def _mutating(function: Decorated) -> Decorated:
    """The options that every mutating command has."""
    for option in reversed(
        (
            click.option(
                "--wait/--no-wait", default=True, help="Wait for the result (default), or return once it is queued."
            ),
            click.option(
                "--timeout", "timeout_s", type=asking.SECONDS,
                help="Seconds to wait; exit 4 when it still runs.",
            ),
            click.option("--dry-run", is_flag=True, help="Say what would be done, or why not, and change nothing."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.group()
def snapshot() -> None:
    """Take, list, show, download, verify and prune snapshots."""


@snapshot.command()
@click.option("--emergency", is_flag=True, help="Without what needs a quorum; never counted as good.")
@_mutating
@click.pass_obj
def create(
    flags: tuple[str, ...], emergency: bool, wait: bool, timeout_s: float | None, dry_run: bool, as_json: bool
) -> int:
    """Take a snapshot of this node's member, verify it and store it."""
    params = {"emergency": "true"} if emergency else {}
    return _ask(flags, "snapshot", params, wait, timeout_s, dry_run, as_json)


@snapshot.command()
@click.argument("identifier", metavar="[ID|latest]", required=False)
@click.option("--all", "every", is_flag=True, help="All of them, one after the other.")
@click.option("--level", type=click.Choice(["structure", "content"]), default="structure", show_default=True)
@click.option("--force", is_flag=True, help="Of --level content: although a member was asked in the last 24 hours.")
@_mutating
@click.pass_obj
def verify(
    flags: tuple[str, ...], identifier: str | None, every: bool, level: str, force: bool, wait: bool,
    timeout_s: float | None, dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Read a stored snapshot back and check it.

    Every byte is read; the outcome is recorded beside the snapshot, and one found damaged is good no more.

    --level content compares it with what another member holds at the same revision. That stalls the writes of a
    follower while it hashes its data, so it is done at most daily, and only where the cluster can spare a member.
    """
    if every == (identifier is not None):
        raise BadInput("name one snapshot, `latest`, or --all", hint="`etcd-agent snapshot list` shows them")
    of_content = level == "content"
    if not of_content and force:
        raise BadInput("--force is of --level content", hint="leave it out")
    if of_content and every:
        raise BadInput("--level content is for one snapshot: a member stalls for each", hint="name it, or `latest`")
    asked = ({"level": level} if of_content else {}) | ({"force": "true"} if force else {})
    return _ask(flags, "verify", {"id": identifier or "all", **asked}, wait, timeout_s, dry_run, as_json)


@snapshot.command()
@_mutating
@click.pass_obj
def prune(flags: tuple[str, ...], wait: bool, timeout_s: float | None, dry_run: bool, as_json: bool) -> int:
    """Remove what the rules of [retention] no longer keep.

    The newest good snapshot always stays. In a bucket this runs with your own AWS credentials, which need
    s3:DeleteObject: the nodes have no right to delete there. --dry-run shows the reason for each snapshot.
    """
    from agent.cli import pruning

    with reading(flags) as node:
        if dry_run:
            pruning.print_plan(node, as_json)
            return EXIT_OK
        if node.config.store.kind == "s3":
            pruning.prune_here(node, as_json)
            return EXIT_OK
    return _ask(flags, "prune", {}, wait, timeout_s, dry_run, as_json)


@snapshot.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_(flags: tuple[str, ...], as_json: bool) -> None:
    """What the store holds of this cluster, the newest first."""
    from agent.operations import catalogue

    damaged: list[SnapshotInvalid] = []
    with reading(flags) as node:
        store = bootstrap_ports.make_store(node)
        backups = catalogue.backups(store, node.config.cluster, damaged=damaged)
    latest = latest_good(backups)
    document = {
        "cluster": node.config.cluster,
        "store": store.describe(),
        "latest": latest.manifest.snapshot_id if latest else None,
        "snapshots": [snapshot_views.row(backup, latest) for backup in backups],
        "damaged": [{"message": error.message, "hint": error.hint} for error in damaged],
    }
    if as_json:
        tables.print_json(document)
    else:
        snapshot_views.print_list(document, datetime.now(UTC))


@snapshot.command()
@click.argument("identifier", metavar="ID|latest")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def show(flags: tuple[str, ...], identifier: str, as_json: bool) -> None:
    """All that is known of one snapshot.

    Its manifest, and what later verifications found.
    """
    from agent.operations import catalogue

    with reading(flags) as node:
        store = bootstrap_ports.make_store(node)
        backup = catalogue.resolve(store, node.config.cluster, identifier)
    if as_json:
        tables.print_json(
            {
                "manifest": msgspec.to_builtins(backup.manifest),
                "verifications": msgspec.to_builtins(backup.verifications),
                "good": backup.is_good,
                "why_not_good": why_not_good(backup),
                "store": store.describe(),
            }
        )
    else:
        snapshot_views.print_backup(backup, store.describe(), datetime.now(UTC))


@snapshot.command()
@click.argument("identifier", metavar="ID|latest")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--without-structure", is_flag=True, help="Without the check that needs etcdutl or etcdctl here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def download(flags: tuple[str, ...], identifier: str, target: Path, without_structure: bool, as_json: bool) -> None:
    """Unpack a stored snapshot into the file TARGET.

    Every byte is verified while it is written; TARGET appears only when all of it is right, and nothing is ever
    overwritten. Needs no daemon and no etcd: any machine that may read the store will do.
    """
    from agent.cli import downloading

    with reading(flags) as node, progress.shown("download") as on_progress:
        document = downloading.download(
            node, identifier, target.absolute(), with_structure=not without_structure, on_progress=on_progress
        )
    if as_json:
        tables.print_json(document)
    else:
        downloading.print_download(document)


def _ask(
    flags: tuple[str, ...], operation: str, params: Mapping[str, str], wait: bool, timeout_s: float | None,
    dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    if dry_run:
        from agent.cli import dry_runs

        with reading(flags) as node:
            return dry_runs.print_verdict(node, operation, params, as_json)
    with progress.shown(operation) as on_progress:
        answer = asking.ask(
            load_node(flags), operation, params, wait=wait, timeout_s=timeout_s, on_progress=on_progress
        )
    if as_json:
        tables.print_json(answer.document())
    else:
        result = answer.record.result if answer.record else None
        operation_views.print_answer(answer, snapshot_views.named(operation, result))
    return answer.exit_code
