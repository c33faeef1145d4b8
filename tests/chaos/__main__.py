"""`make chaos SUITE=requests`: runs the cases of the seeds, goes on where it was stopped, and ends with a table."""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.chaos import cases, place, report, run
from tests.chaos.place import World
from tests.chaos.run import Verdict
from tests.chaos.sabotage import SABOTAGES
from tests.setup.debian import PROJECT

SUITES = ("requests",)
SOURCES = ("agent", "lambdas", "tests/chaos", "tests/sandbox")
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
    for number in (signal.SIGINT, signal.SIGTERM):  # INT too: a shell starts what is in the background with it ignored
        signal.signal(number, signal.default_int_handler)
    build = PROJECT / "build/chaos"
    sources = digest_of_sources()
    progress = Progress(build / f"{wanted.suite}-{wanted.sabotage or 'agent'}-{sources}.jsonl")
    with tempfile.TemporaryDirectory(prefix="etcd-agent-chaos-") as folder:
        try:
            with place.running(Path(folder) / "world") as world:
                server = world.s3.name
                chosen = [wanted.case] if wanted.case else list(_chosen(world, wanted.seeds, build, sources))
                _run_all(world, chosen, progress, build, wanted)
        except KeyboardInterrupt:
            print("chaos: stopped; the same call goes on from here")
            return 130
    verdicts = [progress.verdicts[case] for case in dict.fromkeys(chosen)]
    print(report.table(verdicts))
    if wanted.results:
        report.write(Path(wanted.results), wanted.suite, wanted.seeds, server, verdicts)
    broken = [verdict for verdict in verdicts if verdict.problems]
    print(f"chaos: {report.summary(verdicts)}")
    for verdict in broken:
        print(f"chaos: BROKEN {verdict.case}\n{report.told(verdict)}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--seeds", type=seeds_in, default="1-5", help="such as 1-40, or 3,7")
    parser.add_argument("--case", default="", help="one case alone, as a failure prints it")
    parser.add_argument("--results", default="", help="a folder for the figures and their table")
    parser.add_argument("--sabotage", default="", choices=["", *SABOTAGES], help="a defect to be found")
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
    paths = sorted(
        path for folder in SOURCES for path in (PROJECT / folder).rglob("*") if path.suffix in (".py", ".yaml")
    )
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _chosen(world: World, seeds: list[int], build: Path, sources: str) -> Iterator[str]:
    path = build / f"points-{sources}.json"
    if not path.exists():
        points = {store: run.record(world, store) for store in cases.STORES}
        points |= {way: run.record(world, "directory", way) for way in cases.WAYS_OF_ENDING_OTHERWISE}
        path.write_text(json.dumps(points))
    matrix = cases.matrix(json.loads(path.read_text()))
    print(f"chaos: {len(matrix)} cases in the matrix, dealt to {cases.MATRIX_SEEDS} seeds")
    for seed in seeds:
        yield from cases.of_seed(seed, matrix)


def _run_all(world: World, chosen: list[str], progress: Progress, build: Path, wanted: argparse.Namespace) -> None:
    left = [case for case in dict.fromkeys(chosen) if wanted.case or case not in progress.verdicts]
    seeds = "" if wanted.case else f" of the seeds {report.as_ranges(wanted.seeds)}"
    print(f"chaos: {len(left)} of {len(chosen)} cases{seeds} to run", flush=True)

    def one(case: str) -> None:
        verdict = run.run(world, case, sabotage=wanted.sabotage, keep=build / "broken")
        number = progress.add(verdict)
        if verdict.problems:
            print(f"chaos: BROKEN {case}\n{report.told(verdict)}", flush=True)
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
