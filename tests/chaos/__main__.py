"""`make chaos SUITE=…`: runs the cases of the seeds, goes on where it was stopped, and ends with a table."""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos import report
from tests.chaos.suites import SUITES, Suite
from tests.chaos.verdict import Verdict
from tests.sandbox import small_disk
from tests.setup.debian import PROJECT

SOURCES = ("agent", "lambdas", "tests/chaos", "tests/sandbox")
ALSO = ("tests/integration/s3_proxy.py",)
TOLD_EVERY = 25


class Progress:
    """The finished cases, one line each in a file, so that a second call goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.verdicts: dict[str, Verdict] = {}
        for line in lines:
            verdict = Verdict(**json.loads(line))
            self.verdicts[verdict.case] = verdict

    def add(self, verdict: Verdict) -> int:
        """Keeps it, and returns how many there are."""
        with self._lock:
            self.verdicts[verdict.case] = verdict
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(verdict)) + "\n")
            return len(self.verdicts)


def main() -> int:
    """Returns 1 when an invariant did not hold."""
    wanted = _parser().parse_args()
    suite = SUITES[wanted.suite]
    if wanted.sabotage not in ("", *suite.sabotages):
        print(f"chaos: the suite {wanted.suite} finds these defects: {', '.join(suite.sabotages)}")
        return 2
    small_disk.in_own_namespace(["-m", "tests.chaos", *sys.argv[1:]])
    for number in (signal.SIGINT, signal.SIGTERM):  # INT too: a shell starts what is in the background with it ignored
        signal.signal(number, signal.default_int_handler)
    build = PROJECT / "build/chaos"
    sources = digest_of_sources()
    progress = Progress(build / f"{wanted.suite}-{wanted.sabotage or 'agent'}-{sources}.jsonl")
    with tempfile.TemporaryDirectory(prefix="etcd-agent-chaos-") as folder:
        try:
            with suite.running(Path(folder) / "world") as world:
                server = world.s3.name
                points_file = build / f"points-{sources}.json"
                chosen = [wanted.case] if wanted.case else suite.chosen(world, wanted.seeds, points_file)
                _run_all(suite, world, chosen, progress, build, wanted)
        except KeyboardInterrupt:
            print("chaos: stopped; the same call goes on from here")
            return 130
    verdicts = [progress.verdicts[case] for case in dict.fromkeys(chosen)]
    print(report.table(suite.layout, verdicts))
    if wanted.results:
        report.write(Path(wanted.results), suite.layout, wanted.seeds, server, verdicts)
    broken = [verdict for verdict in verdicts if verdict.problems]
    print(f"chaos: {report.summary(suite.layout, verdicts)}")
    for verdict in broken:
        print(f"chaos: BROKEN {verdict.case}\n{report.told(wanted.suite, verdict)}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--seeds", type=seeds_in, default="1-5", help="such as 1-40, or 3,7")
    parser.add_argument("--case", default="", help="one case alone, as a failure prints it")
    parser.add_argument("--results", default="", help="a folder for the figures and their table")
    parser.add_argument("--sabotage", default="", help="a defect to be found")
    parser.add_argument("--jobs", type=int, default=2)
    return parser


def seeds_in(text: str) -> list[int]:
    """Numbers and ranges, such as `1-5,9`. Raises ValueError."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def digest_of_sources() -> str:
    """What the verdicts are about: of other sources they say nothing."""
    found = (path for folder in SOURCES for path in (PROJECT / folder).rglob("*") if path.suffix in (".py", ".yaml"))
    paths = sorted([*found, *(PROJECT / path for path in ALSO)])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _run_all(
    suite: Suite, world: Any, chosen: list[str], progress: Progress, build: Path, wanted: argparse.Namespace
) -> None:
    left = [case for case in dict.fromkeys(chosen) if wanted.case or case not in progress.verdicts]
    seeds = "" if wanted.case else f" of the seeds {report.as_ranges(wanted.seeds)}"
    print(f"chaos: {len(left)} of {len(chosen)} cases{seeds} to run", flush=True)

    def one(case: str) -> None:
        verdict = suite.run(world, case, wanted.sabotage, build / "broken")
        number = progress.add(verdict)
        if verdict.problems:
            print(f"chaos: BROKEN {case}\n{report.told(wanted.suite, verdict)}", flush=True)
        elif number % TOLD_EVERY == 0:
            print(f"chaos: {number} cases done", flush=True)

    pool = ThreadPoolExecutor(wanted.jobs)
    try:
        for _ in pool.map(one, left):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
