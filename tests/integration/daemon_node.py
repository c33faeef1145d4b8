"""A node with a real daemon and a stand-in for etcdctl that a test can hold in the middle of a snapshot."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.adapters.spool import ENDS, Spool
from agent.domain import request as requests
from agent.domain.request import Record, Result
from tests.sandbox.processes import Child, Processes, wait_until
from tests.unit.fakes import snapshot_bytes

MEMBER_ID = 2**63 + 1
ETCDCTL = r"""#!/bin/sh
etcd=$(dirname "$0")
echo "TRACE_ID=$TRACE_ID ETCD_AGENT_OP_ID=$ETCD_AGENT_OP_ID $*" >> "$etcd/calls"
case " $* " in
  *" version "*) echo "etcdctl version: 3.5.16" ;;
  *" endpoint status "*) cat "$etcd/status.json" ;;
  *" member list "*) cat "$etcd/members.json" ;;
  *" alarm list "*) echo '{"header":{}}' ;;
  *" snapshot status "*) echo '{"hash":1,"revision":21,"totalKey":3,"totalSize":4096}' ;;
  *" get "*) echo '{"header":{"revision":20},"count":3}' ;;
  *" snapshot save "*)
    for path do :; done
    cp "$etcd/snapshot.db" "$path.part" 2> "$etcd/cp.err" || {
      rm -f "$path.part"; echo "Error: write $path.part: $(sed 's/.*: //' "$etcd/cp.err" | tr A-Z a-z)" >&2; exit 5; }
    echo $$ >> "$etcd/saving"
    while [ -e "$etcd/hold" ]; do sleep 0.02; done
    mv "$path.part" "$path" ;;
  *) echo "Error: unexpected: $*" >&2; exit 1 ;;
esac
"""


class DaemonNode:
    """One `ETCD_AGENT_ROOT` with its stand-in etcd; the daemon is started and ended by the test."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.root, self.etcd = folder / "root", folder / "etcd"
        self._processes = processes
        self.log_name = "agent.jsonl"
        self.etcd.mkdir()
        (self.etcd / "etcdctl").write_text(ETCDCTL)
        (self.etcd / "etcdctl").chmod(0o755)
        (self.etcd / "snapshot.db").write_bytes(snapshot_bytes())
        member = {"ID": MEMBER_ID, "name": "node-1", "peerURLs": ["http://x:2380"], "clientURLs": ["http://x:2379"]}
        (self.etcd / "members.json").write_text(json.dumps({"members": [member]}))
        self.set_status()
        self.set_config("[daemon]\nstop_timeout_s = 1\n")
        self.spool = Spool(self.root / "var/lib/etcd-agent/spool")

    def set_config(self, more: str) -> None:
        path = self.root / "etc/etcd-agent/config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'cluster = "prod"\n[etcd]\ntools_dir = "{self.etcd}"\n{more}')

    def set_status(self, **changes: Any) -> None:
        status = {
            "header": {"cluster_id": 7, "member_id": MEMBER_ID, "revision": 20}, "version": "3.5.16", "dbSize": 4096,
            "leader": MEMBER_ID,
        } | changes  # fmt: skip
        (self.etcd / "status.json").write_text(json.dumps([{"Endpoint": "http://127.0.0.1:2379", "Status": status}]))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.root), "ETCD_AGENT_ROOT": str(self.root), "LANG": "C.UTF-8",
            "ETCD_AGENT_SNAPSHOT__SCHEDULE": "false",
            "ETCDCTL_ENDPOINTS": "http://must-not-be-used:1",
        }  # fmt: skip

    def start(self, *, wait_for: str = "daemon.started", **environment: str) -> Child:
        """A daemon that serves, by its log."""
        before = self.count(wait_for)
        daemon = self._processes.start("daemon", self.argv("run"), self.environment | environment)
        if wait_for:
            wait_until(lambda: self.count(wait_for) > before, "the daemon does not serve", child=daemon)
        return daemon

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agent", *arguments]

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*arguments), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )

    def submit(self, op_id: str, **changes: Any) -> None:
        fields = {"operation": "snapshot", "trace_id": "1" * 32, "requested_at": "2026-01-31T12:00:00Z"} | changes
        assert self.spool.submit(Record(requests.make(op_id=op_id, **fields)))

    def hold(self) -> None:
        """From now on snapshots stay half written."""
        (self.etcd / "hold").touch()

    def go_on(self) -> None:
        (self.etcd / "hold").unlink(missing_ok=True)

    def until_saving(self, times: int = 1) -> int:
        """The pid of the etcdctl that writes the `times`-th snapshot."""
        path = self.etcd / "saving"
        wait_until(lambda: path.exists() and len(path.read_text().split()) >= times, f"save {times} does not start")
        return int(path.read_text().split()[times - 1])

    def worker_of(self, etcdctl: int) -> int:
        """The process that started it."""
        return int(Path(f"/proc/{etcdctl}/stat").read_text().rpartition(")")[2].split()[1])

    def until_ended(self, op_id: str, generation: int = 1) -> Result:
        def ended() -> bool:
            found = self.spool.find(op_id)
            return found is not None and found.state in ENDS and found.record.generation >= generation

        wait_until(ended, f"{op_id} does not end")
        found = self.spool.find(op_id)
        assert found is not None
        assert found.record.result is not None
        return found.record.result

    @property
    def log_file(self) -> Path:
        return self.root / "var/log/etcd-agent" / self.log_name

    def lines(self) -> list[dict[str, Any]]:
        text = self.log_file.read_text() if self.log_file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    def stored(self, kind: str) -> list[Path]:
        """The files of the store, hidden ones too: `data` or `manifest`."""
        return sorted(self.root.glob(f"var/lib/etcd-agent/snapshots/*/{kind}/prod/*"))

    def nothing_half_is_left(self) -> bool:
        work = list((self.root / "var/lib/etcd-agent/work").iterdir())
        names = [name for state in ("incoming", "running", "progress") for name in self.spool.names(state)]
        hidden = list((self.root / "var/lib/etcd-agent/snapshots").rglob(".*"))
        return not work and not names and not hidden


@contextmanager
def node_in(folder: Path) -> Iterator[DaemonNode]:
    """A node whose processes are all gone afterwards."""
    with Processes(folder / "logs") as processes:
        node = DaemonNode(folder, processes)
        try:
            yield node
        finally:
            node.go_on()
            for pid in (node.etcd / "saving").read_text().split() if (node.etcd / "saving").exists() else []:
                if (parent := Path(f"/proc/{pid}/cmdline")).exists() and str(node.etcd).encode() in parent.read_bytes():
                    os.kill(int(pid), signal.SIGKILL)


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)
        self.told: list[str] = []

    def until(self, text: str) -> str:
        """The first message from now on that has this text."""
        while True:
            message = self._socket.recv(4096).decode()
            self.told.append(message)
            if text in message:
                return message

    def read_all(self) -> None:
        """Reads what came in: who sends to a socket that nobody reads is held up by it."""
        while select.select([self._socket], [], [], 0)[0]:
            self.told.append(self._socket.recv(4096).decode())

    def close(self) -> None:
        self._socket.close()
