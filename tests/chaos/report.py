"""What the verdicts add up to: a table by fault and place, and the files that are committed."""

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import cases
from tests.chaos.place import ETCD_VERSION
from tests.chaos.run import Verdict
from tests.setup.debian import PROJECT, cache
from tests.setup.etcd import tools_folder

COLUMNS = (
    "fault", "place", "runs", "crashes", "done", "cancelled", "asked again", "not reached", "lost", "doubled",
    "orphans", "unlisted", "cleaned by next", "broken",
)  # fmt: skip
VICTIMS = {"node": "kill -9 of all", "stop": "SIGTERM to daemon"}


def row_of(verdict: Verdict) -> tuple[str, str]:
    """The fault and the place that a case belongs to."""
    case = cases.parse(verdict.case)
    if not case.injections:
        return "delivery", next((way for way in ("cancelled", "cancel") if case.way.startswith(f"{way}-")), case.way)
    if case.tool_kill and case.tool_kill[1] == "hang":
        return "kill -9 of worker", "while its tool hangs"
    if case.way == "flood":
        return "several", "in a flood of 1,000 requests"
    if len(case.injections) > 1:
        return "several", f"{len(case.injections)} faults"
    injection = case.injections[0]
    if injection.tool is not None:
        moment = injection.tool[1]
        return "kill -9 of etcdctl or etcdutl", "part of a file" if moment.startswith("at-") else f"{moment} its work"
    if injection.at_ms >= 0:
        return VICTIMS.get(injection.victim, f"kill -9 of {injection.victim}"), "any instant"
    role, kind, place, _, _ = injection.point.split(":")
    victim = role if injection.victim == "self" else injection.victim
    at = f"{kind} {place}" if kind in ("step", "s3") else f"{kind} {place.partition('.')[0]}"
    return VICTIMS.get(victim, f"kill -9 of {victim}"), f"{role}: {at}"


def counts_of(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """The sums of some verdicts."""
    return {
        "runs": len(verdicts),
        "crashes": sum(verdict.crashes for verdict in verdicts),
        "done": sum(verdict.outcome == "done" for verdict in verdicts),
        "cancelled": sum(verdict.outcome == "cancelled" for verdict in verdicts),
        "asked again": sum(verdict.generations > 1 for verdict in verdicts),
        "not reached": sum(bool(cases.parse(verdict.case).injections) and not verdict.crashes for verdict in verdicts),
        "lost": sum(verdict.lost for verdict in verdicts),
        "doubled": sum(verdict.doubled for verdict in verdicts),
        "orphans": sum(verdict.orphans for verdict in verdicts),
        "unlisted": sum(verdict.unlisted for verdict in verdicts),
        "cleaned by next": sum(verdict.follow_ups for verdict in verdicts),
        "broken": sum(bool(verdict.problems) for verdict in verdicts),
    }


def rows(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """One row for each fault and place."""
    by_row: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        by_row.setdefault(row_of(verdict), []).append(verdict)
    return [{"fault": fault, "place": place, **counts_of(by_row[fault, place])} for fault, place in sorted(by_row)]


def table(verdicts: Sequence[Verdict]) -> str:
    """The rows as Markdown, which a terminal shows well enough."""
    lines = [COLUMNS, *(tuple(str(row[name]) for name in COLUMNS) for row in rows(verdicts))]
    lines.append(("**all**", "", *(str(counts_of(verdicts)[name]) for name in COLUMNS[2:])))
    widths = [max(len(line[number]) for line in lines) for number in range(len(COLUMNS))]
    shown = [
        "| " + " | ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if number > 1 else "-") for number, width in enumerate(widths)) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line."""
    counts = counts_of(verdicts)
    told = ", ".join(f"{counts[name]} {name}" for name in ("lost", "doubled", "orphans", "unlisted", "broken"))
    return f"{counts['runs']} cases, {counts['crashes']} crashes, {told}"


def told(verdict: Verdict) -> str:
    """What was wrong, and how to see it again."""
    problems = "\n".join(f"  {problem}" for problem in verdict.problems)
    return f"{problems}\n  again: make chaos SUITE=requests CASE='{verdict.case}'"


def as_ranges(seeds: Sequence[int]) -> str:
    """Seeds as the command takes them."""
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))


def write(folder: Path, suite: str, seeds: Sequence[int], server: str, verdicts: Sequence[Verdict]) -> None:
    """Writes `chaos-<suite>.json` and `.md`."""
    known = {
        "suite": suite,
        "command": f"make chaos SUITE={suite} SEEDS={as_ranges(seeds)} RESULTS={folder}",
        "commit": _output("git", "-C", str(PROJECT), "rev-parse", "HEAD"),
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seeds": list(seeds),
        "versions": {
            "python": f"Python {platform.python_version()}", "kernel": f"Linux {platform.release()}",
            "s3": _version_of(server),
            "etcd": _output(str(tools_folder(ETCD_VERSION) / "etcd"), "--version").splitlines()[0],
        },
        "machine": f"{_processors()} processors",
        "seconds_of_cases": round(sum(verdict.seconds for verdict in verdicts)),
        "totals": counts_of(verdicts),
        "broken": [{"case": verdict.case, "problems": verdict.problems} for verdict in verdicts if verdict.problems],
        "rows": rows(verdicts),
    }  # fmt: skip
    (folder / f"chaos-{suite}.json").write_text(json.dumps(known, indent=1) + "\n")
    text = (
        f"# Chaos: {suite}\n\n"
        f"On {known['measured_at']} at commit {str(known['commit'])[:7]}, by `{known['command']}`.\n"
        f"{', '.join(str(version) for version in known['versions'].values())}; {known['machine']}.\n\n"  # type: ignore[attr-defined]
        f"{summary(verdicts)}.\n\n{EXPLAINED}\n\n{table(verdicts)}\n"
    )
    (folder / f"chaos-{suite}.md").write_text(text)


EXPLAINED = """\
Each run is one request in a fresh node: a real daemon, real workers, a real etcd, a store. One or several faults hit
it, a dead daemon is started again as systemd does, the sender asks until it is answered. Then all of these must hold,
or the run is *broken*: one final result and one manifest for the operation; its data there, unpacked and compared;
every asker told the same; nothing left in `work/`, in the spool or half written, no open upload, no process.

The points of a clean run make a matrix that the seeds 1-100 share out, each case to one of them; every seed adds four
cases of its own that chance makes.

- *crashes*: processes that were killed or stopped. *not reached*: what was to be hit had ended before, or did not come.
- *asked again*: it ended as `failed` with a retryable error, which is right where its tool was killed under it.
- *unlisted*: data in the store that no manifest names, so that are no backup: of an attempt that died between the two,
  or, without a crash, of the second of two nodes at the same operation. At most one for each crash and second node.
- *cleaned by next*: something was left that the next snapshot on the node removed, as it should."""


def _version_of(server: str) -> str:
    if server == "versitygw":
        return (cache() / "tools/versitygw").resolve().name if (cache() / "tools/versitygw").exists() else server
    return f"{server} (proves no integrity)"


def _processors() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
