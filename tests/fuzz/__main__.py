"""`make fuzz CASES=100000`: all targets, with a seed that is told, into `docs/results/fuzz.json` and a table.

`python -m tests.fuzz --target NAME --seed SEED --cases N` runs one target again with the same cases.
"""

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.fuzz.target import Ran, Target, in_memory, run
from tests.fuzz.targets import TARGETS, shares
from tests.setup.debian import PROJECT

RESULTS = PROJECT / "docs/results"
TABLE_BEGIN, TABLE_END = "<!-- written by make fuzz -->\n", "<!-- end -->\n"
VERSIONS_OF = ("hypothesis", "msgspec", "click", "rich", "python-json-logger", "botocore")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for. Returns 1 when a target failed, which does not stop the others."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    asked = parser.parse_args(arguments)
    chosen = [target for target in TARGETS if asked.target in (None, target.name)]
    quotas = shares(asked.cases) if asked.target is None else {asked.target: asked.cases}
    print(f"{sum(quotas.values())} cases over {len(chosen)} targets, seed {asked.seed}", flush=True)
    found = {target.name: _run(target, quotas[target.name], asked.seed) for target in chosen}
    total, seconds = sum(ran.cases for ran in found.values()), sum(ran.seconds for ran in found.values())
    failed = [name for name, ran in found.items() if ran.failure]
    print(f"{total} cases in {seconds:.0f} s, {len(failed)} of {len(chosen)} targets failed", flush=True)
    if asked.target is None and not failed:
        _write(_document(found, asked.seed, total, seconds))
    return 1 if failed else 0


def _run(target: Target, cases: int, seed: int) -> Ran:
    with in_memory() as folder:
        ran = run(target, folder, cases=cases, seed=seed)
    print(f"  {target.name:16} {ran.cases:7} cases {ran.seconds:7.1f} s  {'FAILED' if ran.failure else ''}", flush=True)
    if ran.failure:
        print(f"{ran.failure}\nagain: .venv/bin/python -m tests.fuzz --target '{target.name}' --seed {seed} "
              f"--cases {cases}", flush=True)  # fmt: skip
    return ran


def _document(found: Mapping[str, Ran], seed: int, total: int, seconds: float) -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "--short", "HEAD") + ("" if not _git("status", "--porcelain") else " and changes"),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "cases": total,
        "seconds": round(seconds),
        "targets": {
            target.name: {"what": target.what, "cases": found[target.name].cases,
                          "seconds": round(found[target.name].seconds, 1)}
            for target in TARGETS
        },
        "versions": {"python": platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in VERSIONS_OF}},
    }  # fmt: skip


def _write(document: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fuzz.json").write_text(json.dumps(document, indent=2) + "\n")
    page = RESULTS / "fuzz.md"
    before, _, rest = page.read_text().partition(TABLE_BEGIN)
    after = rest.partition(TABLE_END)[2]
    rows = [f"| {name} | {one['what']} | {one['cases']:,} | {one['seconds']:.0f} |"
            for name, one in document["targets"].items()]  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    table = [
        f"Run on {document['date']} at commit {document['commit']}, seed {document['seed']}: "
        f"**{document['cases']:,} cases** in {document['seconds']:,} s, no failure.",
        "", "| target | what comes in | cases | seconds |", "|---|---|---|---|", *rows, "", f"With {versions}.",
    ]  # fmt: skip
    page.write_text(before + TABLE_BEGIN + "\n".join(table) + "\n" + TABLE_END + after)


def _git(*arguments: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
