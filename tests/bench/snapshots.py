"""A backup by the agent beside what people do today, in one run: `make bench`, or `BENCH=small make bench`.

`SIZES="100 500" make bench` measures some sizes alone; rows of the others stay where the agent was the same.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import link as links
from tests.bench import report, servers
from tests.bench.contestants import SAVE, TODAY, ZSTD, Contestant, agent, shell
from tests.bench.link import LOOPBACK, Link
from tests.bench.meter import Cost
from tests.bench.put_latency import Writer
from tests.sandbox import nodes
from tests.sandbox.etcd_cluster import EtcdCluster
from tests.sandbox.kubernetes_data import fill
from tests.sandbox.processes import Processes
from tests.setup.etcd import tools_folder

ROUNDS = {100: 10, 500: 10, 2000: 4}
RCLONE_ROUNDS = 2  # a second server, to see that the ratios are not those of the first one alone
SMALL = {20: 2}
RESULTS = Path(__file__).resolve().parents[2] / "docs/results"


@dataclass
class Round:
    """One run of each contestant, one after the other, and the put latencies meanwhile in seconds."""

    costs: dict[str, Cost] = field(default_factory=dict)
    puts_s: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What one row of the results was measured on."""

    size_mb: int
    link: str
    server: str
    rounds: Sequence[Round]


def main() -> int:
    """Measures every size, link and server, prints the table and writes docs/results/bench.json, .md and .svg."""
    small = os.environ.get("BENCH") == "small"
    rounds = SMALL if small else {size_mb: ROUNDS[size_mb] for size_mb in _sizes()}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-agent-bench-")))
        processes = stack.enter_context(Processes(folder / "logs"))
        ways = [(LOOPBACK, "versitygw")]
        if not small:
            ways += [*_limited(stack), (LOOPBACK, "rclone")]
        cluster = EtcdCluster(processes, folder, tools_folder("3.5"))
        cluster.start()
        settings, filled_mb = [], 0
        for size_mb, count in rounds.items():
            _say(f"filling etcd to {size_mb} MB")
            fill(cluster.members[0], size_mb - filled_mb, lambda done_bytes: None, seed=size_mb)
            filled_mb = size_mb
            for link, server in ways:
                turns = min(count, RCLONE_ROUNDS) if server == "rclone" else count
                settings.append(_measure(cluster, processes, folder, link, server, size_mb, turns))
        rows = [report.row(setting) for setting in settings]
    document = {**_machine(), "rows": rows if small else [*_kept(rounds), *rows]}
    document["rows"].sort(key=lambda one: one["size_mb"])
    print(report.table(document))
    if not small:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
        (RESULTS / "bench.svg").write_text(report.chart(document))
        (RESULTS / "bench.md").write_text(report.page(document))
    return 0


def _sizes() -> list[int]:
    """Those that are asked for. Ends the program when one is not measured."""
    asked = os.environ.get("SIZES", "").split()
    unknown = [one for one in asked if not one.isdigit() or int(one) not in ROUNDS]
    if unknown:
        raise SystemExit(f"SIZES: {' '.join(unknown)}: measured are {' '.join(map(str, ROUNDS))}, in MB")
    return sorted(int(one) for one in asked) or list(ROUNDS)


def _kept(measured: Iterable[int]) -> list[dict[str, Any]]:
    """The rows of other sizes that are there already, of the same agent."""
    path = RESULTS / "bench.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    if before.get("agent_tree") != _git("rev-parse", "HEAD:agent"):
        return []
    return [row for row in before["rows"] if row["size_mb"] not in measured]


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()


def _limited(stack: contextlib.ExitStack) -> Iterator[tuple[Link, str]]:
    if reason := links.why_not():
        _say(f"no limited link: {reason}")
        return
    try:
        yield stack.enter_context(links.limited()), "versitygw"
    except subprocess.CalledProcessError as error:
        _say(f"no limited link: {error.stderr.decode().strip()}")


def _measure(
    cluster: EtcdCluster, processes: Processes, folder: Path, link: Link, server: str, size_mb: int, count: int
) -> Setting:
    tools, place = tools_folder("3.5"), folder / f"{size_mb}-{link.name}-{server}"
    with Processes(place / "logs") as own:
        s3 = servers.start(server, own, place, link)
        (node,) = nodes.make(cluster.members[:1], place, tools, s3)
        nodes.start(own, node)
        writer = Writer(own, cluster.members[0], place)
        members = [member.child.pid for member in cluster.members if member.child is not None]
        at_work = {"etcd": members, server: [s3.child.pid]}
        contestants = [
            agent(node, at_work),
            *(
                shell(name, script, place, tools, node, s3, at_work)
                for name, script in (("today", TODAY), ("zstd", ZSTD), ("save", SAVE))
            ),
        ]
        done = []
        for number in range(count):
            _say(f"{size_mb} MB, {link.name}, {server}: round {number + 1} of {count}")
            done.append(_round(contestants, number, writer))
    shutil.rmtree(place)
    return Setting(size_mb, link.name, server, done)


def _round(contestants: Sequence[Contestant], number: int, writer: Writer) -> Round:
    """Each begins a round in turn, so that none profits from its place."""
    first = number % len(contestants)
    made = Round()
    for contestant in (*contestants[first:], *contestants[:first]):
        with writer.window() as puts_s:
            made.costs[contestant.name] = contestant.run()
        made.puts_s[contestant.name] = puts_s
    return made


def _machine() -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "HEAD"), "agent_tree": _git("rev-parse", "HEAD:agent"), "command": "make bench",
        "processors": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _say(words: str) -> None:
    print(f"* {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
