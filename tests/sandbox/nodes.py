"""The sandbox's nodes: an agent daemon for each etcd member, below an `ETCD_AGENT_ROOT` of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.etcd_cluster import EtcdMember
from tests.sandbox.processes import Child, Processes, wait_until
from tests.sandbox.s3_server import REGION, S3Server

CLUSTER = "sandbox"
PROGRAM = Path(sys.executable).with_name("etcd-agent")
PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class AgentNode:
    """One machine: its etcd member, its root folder and its daemon."""

    name: str
    instance_id: str
    member: EtcdMember
    root: Path
    environment: Mapping[str, str]
    daemon: Child | None = None

    @property
    def log_file(self) -> Path:
        return self.root / "var/log/etcd-agent/agent.jsonl"

    @property
    def spool(self) -> Path:
        return self.root / "var/lib/etcd-agent/spool"

    @property
    def machine_environment(self) -> dict[str, str]:
        """What makes a script run on this machine: its root folder and a PATH that finds the program."""
        return {name: self.environment[name] for name in ("PATH", "ETCD_AGENT_ROOT")}

    def command(self, *arguments: str) -> list[str]:
        """A call of this node's `etcd-agent`."""
        return [str(PROGRAM), *arguments]

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command on this node and returns how it ended."""
        return subprocess.run(
            self.command(*arguments), env={**self.environment, **(environment or {})}, capture_output=True, text=True,
            timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of its log file."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def is_ready(self) -> bool:
        """Whether its daemon serves."""
        return self.log_file.exists() and '"daemon.started"' in self.log_file.read_text()


def make(members: Sequence[EtcdMember], folder: Path, tools: Path, s3: S3Server | None) -> list[AgentNode]:
    """Writes each node's configuration; the store is S3, or each node's own directory without a server."""
    nodes = []
    for number, member in enumerate(members, 1):
        root = folder / member.name / "root"
        instance_id = f"i-{number:017x}"
        config = root / "etc/etcd-agent/config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(_config(member, instance_id, tools, s3))
        environment = {
            "PATH": f"{PROGRAM.parent}:{PLAIN_PATH}",
            "HOME": str(root),
            "ETCD_AGENT_ROOT": str(root),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            **(s3.environment if s3 else {}),
        }
        nodes.append(AgentNode(member.name, instance_id, member, root, environment))
    return nodes


def start(processes: Processes, node: AgentNode) -> None:
    """Starts a node's daemon and waits until it serves."""
    before = node.log_file.read_text().count('"daemon.started"') if node.log_file.exists() else 0
    node.daemon = processes.start(f"agent-{node.name}", node.command("run"), node.environment)
    wait_until(
        lambda: node.log_file.exists() and node.log_file.read_text().count('"daemon.started"') > before,
        f"the agent of {node.name} does not serve",
        child=node.daemon,
    )


def _config(member: EtcdMember, instance_id: str, tools: Path, s3: S3Server | None) -> str:
    tls = member.certificate
    store = (
        f'[store]\nkind = "s3"\nbucket = "{s3.bucket}"\nregion = "{REGION}"\nendpoint_url = "{s3.endpoint_url}"\n'
        if s3
        else '[store]\nkind = "directory"\n'
    )
    return (
        f'cluster = "{CLUSTER}"\n\n[node]\nname = "{member.name}"\ninstance_id = "{instance_id}"\n\n'
        f'[etcd]\nendpoints = ["{member.client_url}"]\nca_cert = "{tls.ca_cert}"\ncert = "{tls.cert}"\n'
        f'key = "{tls.key}"\ndata_dir = "{member.folder / "data"}"\ntools_dir = "{tools}"\n\n{store}'
        "\n[snapshot]\nschedule = false\n"  # what is tested is what was asked for
    )
