"""Where cases happen: one etcd and one S3 server for all of them, and fresh nodes for each."""

import contextlib
import functools
import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import killing, parking
from tests.sandbox import kubernetes_data, s3_server
from tests.sandbox.certificates import Certificate
from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Child, Processes, wait_until
from tests.sandbox.s3_server import REGION, S3Server
from tests.setup.debian import PROJECT
from tests.setup.etcd import tools_folder

ETCD_VERSION = "3.5"
DATA_MB = 2
CLUSTER = "chaos"
PROGRAM = Path(sys.executable).with_name("etcd-agent")
SETTLE_TIMEOUT_S = 90.0
TIMES_PARKED = b"..."
TOOLS = ("etcdctl", "etcdutl")
HANG_S = 25
# Counts the calls. The chosen one hangs, or dies as by kill -9: before it did anything, when it did all of it, or
# part-way: then what it writes is cut to so many percent, under the name that etcdctl uses until it is done.
TOOL = r"""#!/bin/sh
folder='{folder}'
printf . >>"$folder/calls"
if [ "$(wc -c <"$folder/calls")" = {number} ] && mkdir "$folder/fired-tool" 2>/dev/null; then
  case {moment} in
    before) kill -9 $$ ;;
    after) '{tool}' "$@"; kill -9 $$ ;;
    hang) exec sleep {hang_s} ;;
  esac
  for target do :; done
  case " $* " in *" snapshot save "*)
    all="$(dirname "$target")/all"
    for word do shift; [ "$word" = "$target" ] && word=$all; set -- "$@" "$word"; done
    '{tool}' "$@" >&2
    head -c $(($(stat -c %s "$all") * {percent} / 100)) "$all" >"$target.part"
    rm "$all" ;;
  esac
  kill -9 $$
fi
exec '{tool}' "$@"
"""


class PlainMember(EtcdMember):
    """A member without TLS: less work for a machine that runs hundreds of cases."""

    @property
    def client_url(self) -> str:
        return f"http://{self.address}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.address}:{self.peer_port}"

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection(self.address, self.client_port, timeout=30)) as connection:
            yield connection


@dataclass(frozen=True)
class World:
    """What all cases share: they only read etcd, and each has a prefix of its own in the bucket."""

    folder: Path
    tools: Path
    etcd: EtcdMember
    s3: S3Server

    @functools.cached_property
    def s3_client(self) -> Any:
        """One for all: making it takes as long as half a case."""
        return self.s3.client()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    """etcd with some data, and S3; all gone afterwards."""
    folder.mkdir(parents=True)
    with Processes(folder / "logs") as processes:
        member = start_member(processes, folder / "etcd")
        kubernetes_data.fill(member, DATA_MB, lambda written_bytes: None)
        yield World(folder, tools_folder(ETCD_VERSION), member, s3_server.start(processes, folder))


def start_member(processes: Processes, folder: Path) -> EtcdMember:
    """An etcd of one member with its data in that folder, healthy and empty."""
    member = PlainMember("chaos", "127.0.0.1", free_port(), free_port(), folder, Certificate(Path(), Path(), Path()))
    argv = [str(tools_folder(ETCD_VERSION) / "etcd"), *_etcd_flags(member)]
    member.child = processes.start(folder.name, argv, {"PATH": "/usr/bin:/bin"})
    wait_until(member.is_healthy, "etcd is not healthy", child=member.child)
    return member


def _etcd_flags(member: EtcdMember) -> Sequence[str]:
    values = {
        "name": member.name, "data-dir": member.folder, "initial-cluster": f"{member.name}={member.peer_url}",
        "listen-client-urls": member.client_url, "advertise-client-urls": member.client_url,
        "listen-peer-urls": member.peer_url, "initial-advertise-peer-urls": member.peer_url, "log-level": "warn",
        "unsafe-no-fsync": "true",
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in values.items()]


@dataclass
class Node:
    """One machine of a case: a root folder, a plan of what is done to it, and a daemon that is started again."""

    world: World
    folder: Path
    processes: Processes
    number: int
    store: str
    cluster: str = CLUSTER
    sabotage: str = ""
    daemon: Child | None = None
    starts: int = 0
    is_impatient: bool = False
    submits: list[Child] = field(default_factory=list)

    def prepare(
        self, injections: Sequence[dict[str, str]] = (), *, record: bool = False,
        tool_kill: tuple[int, str] | None = None, parks: bool = False,
    ) -> None:  # fmt: skip
        """Makes its folders and configuration, and the plan that its processes follow."""
        self.plan_folder.mkdir(parents=True)
        if parks:
            (self.plan_folder / parking.MARK).write_bytes(TIMES_PARKED)
        tools = self._tools_that_die(*tool_kill) if tool_kill else self.world.tools
        config = self.root / "etc/etcd-agent/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(self._config(tools))
        plan = {"root": str(self.root), "injections": list(injections), "record": record}
        (self.plan_folder / "plan.json").write_text(json.dumps(plan))

    @property
    def root(self) -> Path:
        return self.folder / f"node-{self.number}"

    @property
    def plan_folder(self) -> Path:
        return self.folder / f"plan-{self.number}"

    @property
    def instance_id(self) -> str:
        return f"i-{self.number:017x}"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/etcd-agent"

    @property
    def log_file(self) -> Path:
        return self.root / "var/log/etcd-agent/agent.jsonl"

    @property
    def prefix(self) -> str:
        return self.folder.name

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{PROGRAM.parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.root), "LANG": "C.UTF-8",
            "ETCD_AGENT_ROOT": str(self.root), "PYTHONPATH": f"{PROJECT / 'tests/chaos/hook'}:{PROJECT}",
            "CHAOS_PLAN": str(self.plan_folder / "plan.json"), "CHAOS_SABOTAGE": self.sabotage,
            **self.world.s3.environment, **({"CHAOS_IMPATIENT": "1"} if self.is_impatient else {}),
        }  # fmt: skip

    def fired(self) -> int:
        """How many injections happened inside the node's processes, those of its tools included."""
        return len(list(self.plan_folder.glob("fired-*")))

    def points(self) -> list[str]:
        """What a recording run passed."""
        path = self.plan_folder / "points"
        return path.read_text().splitlines() if path.exists() else []

    def tend(self) -> None:
        """Starts the daemon unless it runs, as systemd would."""
        if self.daemon is None or not self.daemon.is_running():
            self.starts += 1
            self.daemon = self.processes.start(f"daemon-{self.number}", self.argv("run"), self.environment)

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "agent", *words]

    def submit(self, *words: str) -> Child:
        """Starts `submit`; its output is its log."""
        name = f"submit-{self.number}-{len(self.submits)}"
        environment = {**self.environment, "TRACE_ID": "65b9e4c0" + "a" * 24}
        child = self.processes.start(name, self.argv("submit", "snapshot", "--json", *words), environment)
        self.submits.append(child)
        return child

    def cancel(self, op_id: str) -> Child:
        """Starts `ops cancel`; its output is its log."""
        name = f"cancel-{self.number}-{len(self.submits)}"
        argv = self.argv("ops", "cancel", op_id, "--json", "--timeout", "60")
        child = self.processes.start(name, argv, {**self.environment, "TRACE_ID": "65b9e4c0" + "c" * 24})
        self.submits.append(child)
        return child

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        """Waits, and starts the daemon again meanwhile whenever it ended. Raises RuntimeError."""

        def looked_after() -> bool:
            self.tend()
            return condition()

        wait_until(looked_after, what, timeout_s=timeout_s)

    def stop_daemon(self) -> None:
        """Ends it the way systemd does."""
        if self.daemon is not None:
            self.processes.stop(self.daemon)

    def spool(self, state: str) -> list[Path]:
        """The files of a state, unfinished writes included."""
        folder = self.state / "spool" / state
        return sorted(folder.iterdir()) if folder.exists() else []

    def kill_everything(self) -> int:
        """For the end of a case: nothing of it may live on. Returns how many processes there were."""
        return killing.kill_all(str(self.root), "node")

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def _config(self, tools: Path) -> str:
        s3 = self.world.s3
        store = (
            f'kind = "s3"\nbucket = "{s3.bucket}"\nprefix = "{self.prefix}"\nregion = "{REGION}"\n'
            f'endpoint_url = "{s3.endpoint_url}"\n'
            if self.store == "s3"
            else 'kind = "directory"\n'
        )
        return (
            f'cluster = "{self.cluster}"\n[node]\nname = "node-{self.number}"\ninstance_id = "{self.instance_id}"\n'
            f'[etcd]\nendpoints = ["{self.world.etcd.client_url}"]\ntools_dir = "{tools}"\n'
            "[daemon]\nscan_interval_s = 3\nstop_timeout_s = 1\nparked_interval_s = 1\n"
            "[snapshot]\nschedule = false\nnice = 0\n"  # faults are looked for here, not slowness on a busy machine
            f"[store]\n{store}"
        )

    def _tools_that_die(self, number: int, moment: str) -> Path:
        folder = self.plan_folder / "tools"
        folder.mkdir()
        for name in TOOLS:
            percent = int(moment.removeprefix("at-")) if moment.startswith("at-") else 0
            text = TOOL.format(
                folder=self.plan_folder,
                number=number,
                moment=moment,
                percent=percent,
                hang_s=HANG_S,
                tool=self.world.tools / name,
            )
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return folder


def age_everything(folder: Path, by_s: float) -> None:
    """Makes all files below a folder older, so that what only old files meet need not be waited for."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            os.utime(path, (status.st_atime - by_s, status.st_mtime - by_s), follow_symlinks=False)
