"""`make damaged CASES=10000 SEED=1`: damaged snapshots of a real etcd, into `docs/results/damaged.md`.

`python -m tests.damage --first N --cases 1 --seed SEED` runs one case again.
"""

import argparse
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.damage import kinds, resealing, running, taking
from tests.damage.place import Place
from tests.damage.resealing import CRASHED, OTHER_REVISION, SEEN, UNSEEN, Resealed
from tests.damage.running import WAYS, Found
from tests.fuzz.target import in_memory
from tests.setup import etcd
from tests.setup.debian import PROJECT

PAGE = PROJECT / "docs/results/damaged.md"
BEGIN, END = "<!-- written by make damaged -->\n", "<!-- end -->\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when one was accepted. Only a whole run, with none accepted, is written down."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--resealed", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    with in_memory() as folder:
        place = Place(folder, taking.take(folder / "etcd", etcd.tools_folder(taking.VERSION)))
        if (control := (place.verified(), place.downloaded())) != ("", ""):
            print(f"the undamaged one is not accepted: {control}")
            return 1
        started = time.monotonic()
        found = running.run(place, asked.cases, asked.seed, first=asked.first)
        seconds = time.monotonic() - started
        wrong = [*found.accepted, *((name, "offered", -1) for name in place.offered())]
        runs = place.tool.runs
        resealed = resealing.run(place, 0 if asked.first else asked.resealed, asked.seed, resealing.tools_here())
    wrong += resealed.accepted
    table = _table(found, resealed, asked.seed, seconds, len(place.raw), runs)
    print("\n".join(table))
    for kind, way, number in wrong:
        print(f"ACCEPTED by {way}: case {number}, {kind}, seed {asked.seed}")
    if not wrong and asked.cases >= running.OF_A_WHOLE_RUN:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + "\n".join(table) + "\n" + END + rest.partition(END)[2])
    return 1 if wrong else 0


def _table(found: Found, resealed: Resealed, seed: int, seconds: float, size_bytes: int, runs: int) -> list[str]:
    accepted = len(found.accepted)
    return [
        f"On {datetime.now(UTC).date().isoformat()} at commit {_commit()}, etcd {taking.VERSION}, a snapshot of "
        f"{size_bytes:,} bytes, seed {seed}: **{found.cases:,} damaged snapshots** in {seconds:.0f} s, "
        f"**{accepted} accepted**. The real tool was run {runs} times, for the undamaged one alone.",
        "", "What caught them, by kind:", "",
        "| kind | cases | create | verify | download |", "|---|---:|---|---|---|",
        *(f"| {kind} | {_cases(found, kind):,} | {' | '.join(_by(found, kind, way) for way in WAYS)} |"
          for kind in kinds.KINDS),
        "",
        f"{resealed.cases} others with the checksum at their end recomputed: `verify` and `download` accepted "
        f"{len(resealed.accepted)}, since the manifest has the SHA-256 of the whole. `create` has nothing but "
        f"the tool, here etcd {taking.VERSION}'s, and accepted {resealed.created}. What the tool of each version says:",
        "", f"| tool | {SEEN} | {CRASHED} | {OTHER_REVISION} | {UNSEEN} |", "|---|---:|---:|---:|---:|",
        *(f"| {name} | {said[SEEN]} | {said[CRASHED]} | {said[OTHER_REVISION]} | {said[UNSEEN]} |"
          for name, said in resealed.said.items()),
    ]  # fmt: skip


def _cases(found: Found, kind: str) -> int:
    return sum(count for (of, way, _), count in found.caught.items() if (of, way) == (kind, WAYS[0]))


def _by(found: Found, kind: str, way: str) -> str:
    by = Counter({check: count for (of, on, check), count in found.caught.items() if (of, on) == (kind, way)})
    return ", ".join(f"{check or 'ACCEPTED'} {count:,}" for check, count in by.most_common())


def _commit() -> str:
    def git(*words: str) -> str:
        asked = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
        return asked.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" and changes" if git("status", "--porcelain") else "")


if __name__ == "__main__":
    sys.exit(main())
