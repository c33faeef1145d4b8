"""Where cases of the suite `snapshots` happen: a world for each size of the database, and nodes with faults around."""

import base64
import contextlib
import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import place
from tests.chaos.place import CLUSTER, Node, World
from tests.sandbox import kubernetes_data, s3_server
from tests.sandbox.etcd_cluster import EtcdMember, call
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import REGION, S3Server
from tests.setup.etcd import tools_folder

SMALL_MB = 2
# Of what no compression makes much smaller, so that there are as many parts of 5 MiB as the size says.
RANDOM_MB = {"middle": 9, "large": 17}
VALUE_BYTES = 6 * 1024
PUTS_PER_TXN = 100
NEVER_S = 3600  # the schedule of the outbox leaves it alone
# A tool that stops where the case says: after it has written so much of its file, and until the suite lets it go on.
TOOL = r"""#!/bin/sh
folder='{folder}'
for number in {numbers}; do
  case " $* " in *" {command} "*) ;; *) break ;; esac
  [ -e "$folder/disarmed" ] && break
  mkdir "$folder/stopped-$number" 2>/dev/null || continue
  for target do :; done
  if [ {percent} -gt 0 ]; then
    all="$folder/all-$number"
    for word do shift; [ "$word" = "$target" ] && word=$all; set -- "$@" "$word"; done
    '{tool}' "$@" || exit
    size=$(($(stat -c %s "$all") * {percent} / 100))
    head -c $size "$all" >"$target.part"
  fi
  : >"$folder/fired-$number"
  while [ ! -e "$folder/go-$number" ]; do sleep 0.01; done
  [ {percent} -gt 0 ] || break
  tail -c +$((size + 1)) "$all" >>"$target.part" && rm "$all" && exec mv "$target.part" "$target"
  exit 1
done
exec '{tool}' "$@"
"""


class Worlds:
    """One world for each size, made when it is first asked for; they share the S3 server."""

    def __init__(self, folder: Path, processes: Processes, s3: S3Server, starter: ThreadPoolExecutor) -> None:
        self.s3 = s3
        self._folder = folder
        self._processes = processes
        self._starter = starter
        self._lock = threading.Lock()
        self._made: dict[str, World] = {}

    def of(self, size: str) -> World:
        """That with a database of that size."""
        with self._lock:
            if size not in self._made:
                # The kernel ends a guarded child with the thread that started it, so a case's own thread must not.
                folder = self._folder / f"etcd-{size}"
                member = self._starter.submit(place.start_member, self._processes, folder).result()
                if size in RANDOM_MB:
                    _fill_randomly(member, RANDOM_MB[size])
                else:
                    kubernetes_data.fill(member, SMALL_MB, lambda written_bytes: None)
                self._made[size] = World(self._folder, tools_folder(place.ETCD_VERSION), member, self.s3)
            return self._made[size]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Worlds]:
    """The S3 server, and etcd as it is needed; all gone afterwards."""
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(1, "worlds") as starter, Processes(folder / "logs") as processes:
        yield Worlds(folder, processes, s3_server.start(processes, folder), starter)


def _fill_randomly(member: EtcdMember, size_mb: int) -> None:
    chance = random.Random(size_mb)
    with member.connection() as connection:
        for first in range(0, size_mb * 1_000_000 // VALUE_BYTES, PUTS_PER_TXN):
            puts = [
                {"requestPut": {"key": _base64(f"/registry/secrets/one/{number}".encode()),
                                "value": _base64(chance.randbytes(VALUE_BYTES))}}
                for number in range(first, first + PUTS_PER_TXN)
            ]  # fmt: skip
            call(connection, "/v3/kv/txn", {"success": puts})


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass
class SnapshotNode(Node):
    """A node whose store is behind a proxy or can be away, and whose tool can stop.

    It waits long enough for a call and for its store that a busy machine is no fault of its own.
    """

    endpoint_url: str = ""
    call_timeout_s: int = 10
    patience_s: float = 30.0
    is_store_away: bool = False
    outbox_interval_s: int = NEVER_S

    def set_up(self, **changes: object) -> None:
        """Its folders and configuration, with nothing planned for its processes."""
        self.plan_folder.mkdir(parents=True)
        (self.root / "etc/etcd-agent").mkdir(parents=True)
        self.plan(())
        self.configure(**changes)

    def plan(self, points: Sequence[str]) -> None:
        """At which points its processes are held from now on, one after the other, those that are started now."""
        injections = [{"point": point, "victim": "hold"} for point in points]
        plan = {"root": str(self.root), "injections": injections, "record": False}
        path = self.plan_folder / "plan.json"
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(plan))
        unfinished.replace(path)

    def configure(self, **changes: object) -> None:
        """Writes the configuration anew; the daemon reads it when it starts, workers and commands at once."""
        for name, value in changes.items():
            setattr(self, name, value)
        (self.root / "etc/etcd-agent/config.toml").write_text(self._config(self.tools))

    def stop_tool(self, command: str, percent: int, times: int) -> None:
        """Has the calls of etcd's tools with that command stop: when so much of the file is written, or at once."""
        self.tools.mkdir()
        for name in place.TOOLS:
            text = TOOL.format(
                folder=self.plan_folder, numbers=" ".join(map(str, range(times))), command=command, percent=percent,
                tool=self.world.tools / name,
            )  # fmt: skip
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        self.configure()

    @property
    def tools(self) -> Path:
        """Where its tools are: those that stop, if there are any."""
        return self.plan_folder / "tools"

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "CHAOS_BRISK": str(self.patience_s)}

    def outbox(self, suffix: str = ".json") -> list[Path]:
        """The drafts that are kept, or other files of the outbox."""
        return sorted((self.state / "outbox").glob(f"[!.]*{suffix}"))

    def command(self, *words: str) -> tuple[int, str]:
        """Runs one of the agent's commands to its end: its exit code and output."""
        child = self.processes.start(f"command-{len(self.submits)}", self.argv(*words), self.environment)
        self.submits.append(child)
        self.until(lambda: not child.is_running(), f"{' '.join(words[:2])} does not end")
        return child.process.returncode, child.log.read_text(errors="replace")

    def ask(self, operation: str, *words: str) -> tuple[int, str]:
        """Asks for an operation and waits: the exit code and output."""
        return self.command("submit", operation, "--json", *words)

    def _config(self, tools: Path) -> str:
        tools = tools if tools.exists() else self.world.tools
        return (
            f'cluster = "{CLUSTER}"\n[node]\nname = "node-{self.number}"\ninstance_id = "{self.instance_id}"\n'
            f'[etcd]\nendpoints = ["{self.world.etcd.client_url}"]\ntools_dir = "{tools}"\n'
            f"[daemon]\nscan_interval_s = 3\nstop_timeout_s = 1\n"
            f"[outbox]\nretry_interval_s = {self.outbox_interval_s}\n"
            f"[snapshot]\ntimeout_s = 120\n{self._store_config()}"
        )

    def _store_config(self) -> str:
        if self.store == "s3":
            return (
                f'[store]\nkind = "s3"\nbucket = "{self.world.s3.bucket}"\nprefix = "{self.prefix}"\n'
                f'region = "{REGION}"\nendpoint_url = "{self.endpoint_url}"\ncall_timeout_s = {self.call_timeout_s}\n'
            )
        if not self.is_store_away:
            return '[store]\nkind = "directory"\n'
        in_the_way = self.plan_folder / "no-folder"
        in_the_way.write_text("a file where the store's folder is meant to be")
        return f'[store]\nkind = "directory"\npath = "{in_the_way}/snapshots"\n'
