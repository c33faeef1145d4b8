"""How snapshots look to people: the list, one of them, and what a taken or verified one is summed up to."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.cli import tables
from agent.domain.request import Result, parse_moment
from agent.domain.snapshot import Backup, Check, Manifest
from agent.domain.soundness import found_damaged, found_different, highest_passed, last_read_back, why_not_good
from agent.errors import BadInput

if TYPE_CHECKING:
    from rich.text import Text


def row(backup: Backup, latest: Backup | None) -> dict[str, Any]:
    """One snapshot as `snapshot list --json` has it."""
    manifest, highest = backup.manifest, highest_passed(backup)
    return {
        "snapshot_id": manifest.snapshot_id, "retention_class": manifest.retention_class,
        "requested_at": manifest.requested_at, "revision": manifest.revision,
        "raw_size_bytes": manifest.raw_size_bytes, "size_bytes": manifest.data.size_bytes,
        "checks": {check.level: check.outcome for check in manifest.checks},
        "verifications": [
            {
                "level": one.level, "passed": one.passed, "speaks_against": one.speaks_against,
                "checked_at": one.checked_at, "message": one.message,
            }
            for one in backup.verifications
        ],
        "verified": {"level": highest.level, "checked_at": highest.checked_at} if highest else None,
        "last_read_back": last_read_back(backup), "found_damaged": found_damaged(backup),
        "found_different": found_different(backup),
        "good": backup.is_good, "why_not_good": why_not_good(backup),
        "latest": latest is not None and manifest.snapshot_id == latest.manifest.snapshot_id,
        "node": manifest.node, "member_id": manifest.member_id, "etcd_version": manifest.etcd_version,
        "trace_id": manifest.trace_id,
        "op_id": manifest.op_id, "key": manifest.data.key,
    }  # fmt: skip


def print_list(document: Mapping[str, Any], now: datetime) -> None:
    """The table of `snapshot list`, with what is damaged below it."""
    screen = tables.console()
    screen.print(tables.plain(f"cluster {document['cluster']}, {document['store']}", "dim"), soft_wrap=True)
    if document["snapshots"]:
        view = tables.table(
            "ID", "AGE", "REVISION", "SIZE", "STORED", "CLASS", "VERIFIED", "NODE", "GOOD",
            right=("REVISION", "SIZE", "STORED"),
        )  # fmt: skip
        view.columns[0].no_wrap = True
        for one in document["snapshots"]:
            view.add_row(
                one["snapshot_id"], tables.since(parse_moment(one["requested_at"]), now), str(one["revision"]),
                tables.size(one["raw_size_bytes"]), tables.size(one["size_bytes"]), one["retention_class"],
                _verified(one, now), tables.plain(one["node"]), _good(one),
            )  # fmt: skip
        screen.print(view)
    else:
        screen.print("no snapshots")
    if document["latest"] is None:
        screen.print(tables.plain("there is no good snapshot: `etcd-agent snapshot create` takes one", "bold red"))
    for error in document["damaged"]:
        screen.print(tables.error_lines("damaged", error["message"], error["hint"]))


def print_backup(backup: Backup, store: str, now: datetime) -> None:
    """The screen of `snapshot show`."""
    manifest = backup.manifest
    good = tables.plain("yes", "green") if backup.is_good else tables.plain(f"no: {_reasons(backup)}", "bold red")
    screen = tables.console()
    screen.print(
        tables.pairs(
            [
                ("snapshot", manifest.snapshot_id),
                ("good", good),
                ("verified", _verified(row(backup, None), now)),
                ("age", f"{tables.since(parse_moment(manifest.requested_at), now)} ({manifest.requested_at})"),
                ("class", manifest.retention_class),
            ]
        )
    )
    for title, rows in (
        ("content", _content(manifest)),
        ("stored", _stored(manifest, store)),
        ("origin", _origin(manifest)),
    ):
        screen.print(tables.plain(f"\n{title}", "bold"))
        screen.print(tables.pairs(rows))
    _print_checks(backup)


def named(operation: str, result: Result | None) -> list[tables.Pair]:
    """What the on-call wants of a result, in words."""
    if result is None or not result.output:
        return []
    output = result.output
    if operation == "verify":
        if output.get("level") == "content":
            return [
                ("compared", f"{output.get('snapshot_id')}: {output.get('compared')}"),
                ("where", str(output.get("store", ""))),
            ]
        passed = [one for one in output.get("verified", []) if one.get("passed")]
        rows: list[tables.Pair] = [("verified", f"{one.get('snapshot_id')}, {one.get('checked_at')}") for one in passed]
        left = output.get("passed", 0) - len(passed)
        return [*rows, ("and", f"{left} more" if left > 0 else ""), ("where", str(output.get("store", "")))]
    if operation == "outbox":
        return [("shipped", ", ".join(output.get("shipped", []))), ("where", str(output.get("store", "")))]
    if operation == "prune":
        return [
            *(("removed", f"{one.get('snapshot_id')}: {one.get('reason')}") for one in output.get("removed", [])),
            *(("removed", f"{key}: it had no manifest") for key in output.get("unlisted_removed", [])),
            *(("damaged", str(message)) for message in output.get("damaged_manifests", [])),
            ("kept", str(output.get("kept", ""))),
            ("where", str(output.get("store", ""))),
        ]
    if not output.get("stored", True):
        return [
            (
                "snapshot",
                f"{output.get('snapshot_id', '')}, verified, NOT STORED: it stays on this node until the store is back",
            ),
            ("why", str(output.get("why_not_stored", {}).get("message", ""))),
            ("next", str(output.get("why_not_stored", {}).get("hint", ""))),
            ("kept", str(output.get("kept", ""))),
            ("revision", str(output.get("revision", ""))),
            ("checks", _outcomes(output.get("checks", {}))),
        ]
    already = " (it was there already)" if output.get("already") else ""
    raw, stored = output.get("raw_size_bytes", 0), output.get("size_bytes", 0)
    return [
        ("snapshot", f"{output.get('snapshot_id', '')}{already}"),
        ("revision", str(output.get("revision", ""))),
        ("size", f"{tables.size(raw)}, {tables.size(stored)} stored"),
        ("where", str(output.get("store", ""))),
        ("key", str(output.get("key", ""))),
        ("class", str(output.get("retention_class", ""))),
        ("checks", _outcomes(output.get("checks", {}))),
    ]


def _content(manifest: Manifest) -> list[tables.Pair]:
    live_keys = "not counted" if manifest.live_keys is None else f"{manifest.live_keys:,}"
    return [
        ("revision", f"{manifest.revision:,}"),
        ("keys", f"{manifest.total_key:,} with their history, {live_keys} live"),
        ("size", _bytes(manifest.raw_size_bytes)),
        ("sha256", manifest.raw_sha256),
        ("hash", f"{manifest.hash:08x} by {manifest.tool}"),
    ]


def _stored(manifest: Manifest, store: str) -> list[tables.Pair]:
    return [
        ("store", store),
        ("key", manifest.data.key),
        ("version", manifest.data.version_id),
        ("size", f"{_bytes(manifest.data.size_bytes)}, {manifest.data.compression}"),
        ("sha256", manifest.data.sha256),
    ]


def _origin(manifest: Manifest) -> list[tables.Pair]:
    return [
        ("cluster", f"{manifest.cluster}, etcd cluster id {manifest.etcd_cluster_id}"),
        ("member", " ".join(filter(None, (manifest.member_id, manifest.member_name, manifest.member_endpoint)))),
        ("taken by", f"{manifest.node} {manifest.instance_id}".strip()),
        ("etcd", manifest.etcd_version),
        ("taken", f"{manifest.started_at} to {manifest.finished_at}"),
        ("agent", manifest.agent_version),
        ("operation", manifest.op_id),
        ("trace", manifest.trace_id),
        *((f"fingerprint {name}", text) for name, text in manifest.fingerprints.items()),
    ]


def _bytes(count: int) -> str:
    return f"{tables.size(count)} ({count:,} bytes)"


def _print_checks(backup: Backup) -> None:
    view = tables.table("CHECK", "OUTCOME", "WHEN", "BY", "NOTE")
    for check in backup.manifest.checks:
        view.add_row(*_check(check, "when it was taken", check.note))
    for one in sorted(backup.verifications, key=lambda one: one.checked_at):
        for check in one.checks:
            view.add_row(*_check(check, f"{one.node}, trace {one.trace_id}", one.message or check.note))
    screen = tables.console()
    screen.print()
    screen.print(view)


def _check(check: Check, by: str, note: str) -> "tuple[Text, ...]":
    plain = tables.plain
    return plain(check.level), tables.coloured(check.outcome), plain(check.checked_at), plain(by), plain(note)


def _reasons(backup: Backup) -> str:
    return "; ".join(why_not_good(backup))


def _good(one: Mapping[str, Any]) -> "Text":
    if one["latest"]:
        return tables.plain("latest", "bold green")
    return tables.plain("yes", "green") if one["good"] else tables.plain(f"no: {'; '.join(one['why_not_good'])}", "red")


def _verified(one: Mapping[str, Any], now: datetime) -> "Text":
    """The highest level that passed and when; then damage, the last reading back, and what did not pass at first."""
    highest, damaged, read_back = one["verified"], one["found_damaged"], one["last_read_back"]
    text = tables.plain("")
    if damaged:
        text.append(f"DAMAGED, found {_ago(damaged, now)}; ", style="bold red")
    if one["found_different"]:
        text.append(f"DIFFERS from another member, found {_ago(one['found_different'], now)}; ", style="bold red")
    text.append(tables.printable(f"{highest['level']} {_ago(highest['checked_at'], now)}") if highest else "nothing")
    if read_back:
        text.append(f", read back {_ago(read_back, now)}", style="green")
    for level, outcome in one["checks"].items():
        if outcome != "passed":
            text.append(tables.printable(f", {level} {outcome}"), style="red" if outcome == "failed" else "yellow")
    return text


def _ago(moment: str, now: datetime) -> str:
    """One odd time in a record must not hide the rest of the list."""
    try:
        since = tables.since(parse_moment(moment), now)
    except BadInput:
        return tables.printable(moment)
    return since if since.startswith("in ") else f"{since} ago"


def _outcomes(checks: Mapping[str, str]) -> "Text":
    """The levels that passed by their names, the others with their outcome."""
    text = tables.plain("")
    for level, outcome in checks.items():
        style = {"passed": "", "failed": "red"}.get(outcome, "yellow")
        words = level if outcome == "passed" else f"{level} {outcome}"
        text.append(tables.printable(f"{', ' if text else ''}{words}"), style=style)
    return text
