"""What the verdicts add up to: a table by fault and place, and the files that are committed."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.place import ETCD_VERSION
from tests.chaos.verdict import Verdict
from tests.setup.debian import PROJECT, cache
from tests.setup.etcd import tools_folder


@dataclass(frozen=True)
class Layout:
    """How a suite is told.

    The first two of `columns` are what `row_of` gives for a verdict, the others names in `counts_of` of some verdicts;
    `summed` are those of the summary's line.
    """

    suite: str
    columns: tuple[str, ...]
    row_of: Callable[[Verdict], tuple[str, str]]
    counts_of: Callable[[Sequence[Verdict]], dict[str, int]]
    explained: str
    summed: tuple[str, ...]


def rows(layout: Layout, verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """One row for each pair of what the layout tells by."""
    by_row: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        by_row.setdefault(layout.row_of(verdict), []).append(verdict)
    first, second = layout.columns[:2]
    return [{first: row[0], second: row[1], **layout.counts_of(by_row[row])} for row in sorted(by_row)]


def table(layout: Layout, verdicts: Sequence[Verdict]) -> str:
    """The rows as Markdown, which a terminal shows well enough."""
    columns, sums = layout.columns, layout.counts_of(verdicts)
    lines = [columns, *(tuple(str(row[name]) for name in columns) for row in rows(layout, verdicts))]
    lines.append(("**all**", "", *(str(sums[name]) for name in columns[2:])))
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    shown = [
        "| " + " | ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if number > 1 else "-") for number, width in enumerate(widths)) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def summary(layout: Layout, verdicts: Sequence[Verdict]) -> str:
    """One line."""
    counts = layout.counts_of(verdicts)
    return ", ".join([f"{counts['runs']} cases", *(f"{counts[name]} {name}" for name in layout.summed)])


def told(suite: str, verdict: Verdict) -> str:
    """What was wrong, and how to see it again."""
    problems = "\n".join(f"  {problem}" for problem in verdict.problems)
    return f"{problems}\n  again: make chaos SUITE={suite} CASE='{verdict.case}'"


def as_ranges(seeds: Sequence[int]) -> str:
    """Seeds as the command takes them."""
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))


def write(folder: Path, layout: Layout, seeds: Sequence[int], server: str, verdicts: Sequence[Verdict]) -> None:
    """Writes `chaos-<suite>.json` and `.md`."""
    suite = layout.suite
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
        "totals": layout.counts_of(verdicts),
        "broken": [{"case": verdict.case, "problems": verdict.problems} for verdict in verdicts if verdict.problems],
        "rows": rows(layout, verdicts),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"chaos-{suite}.json").write_text(json.dumps(known, indent=1) + "\n")
    text = (
        f"# Chaos: {suite}\n\n"
        f"On {known['measured_at']} at commit {str(known['commit'])[:7]}, by `{known['command']}`.\n"
        f"{', '.join(str(version) for version in known['versions'].values())}; {known['machine']}.\n\n"  # type: ignore[attr-defined]
        f"{summary(layout, verdicts)}.\n\n{layout.explained}\n\n{table(layout, verdicts)}\n"
    )
    (folder / f"chaos-{suite}.md").write_text(text)


def _version_of(server: str) -> str:
    if server == "versitygw":
        return (cache() / "tools/versitygw").resolve().name if (cache() / "tools/versitygw").exists() else server
    return f"{server} (proves no integrity)"


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
