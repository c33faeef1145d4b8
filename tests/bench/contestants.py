"""Who competes: what people do today, the same with zstd, a bare save, and the agent."""

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.meter import Cost, measured
from tests.sandbox.nodes import AgentNode
from tests.sandbox.s3_server import S3Server
from tests.setup import bench_tools

TODAY = 'etcdctl $FLAGS snapshot save "$F" && $STATUS snapshot status "$F" -w json && $COPY "$F" "$TO"'
ZSTD = (
    'etcdctl $FLAGS snapshot save "$F" && $STATUS snapshot status "$F" -w json && '
    'zstd -q -1 -T2 "$F" -o "$F.zst" && $COPY "$F.zst" "$TO"'
)
SAVE = 'etcdctl $FLAGS snapshot save "$F"'


@dataclass(frozen=True)
class Contestant:
    """A name as the results have it, and one run."""

    name: str
    run: Callable[[], Cost]


Servers = Mapping[str, Sequence[int]]


def shell(
    name: str, script: str, folder: Path, tools: Path, node: AgentNode, s3: S3Server, servers: Servers
) -> Contestant:
    """A script of today's commands, with the member's certificates and the server's credentials."""
    home = folder / name
    tls = node.member.certificate
    flags = f"--endpoints {node.member.client_url} --cacert {tls.ca_cert} --cert {tls.cert} --key {tls.key}"
    environment = {
        "PATH": f"{tools}:{bench_tools.folder() / 'bin'}:{bench_tools.zstd_folder()}:/usr/bin:/bin",
        "HOME": str(home),
        "FLAGS": flags,
        "F": str(home / "snapshot.db"),
        "STATUS": "etcdutl" if (tools / "etcdutl").exists() else "etcdctl",
        "COPY": f"aws s3 cp --only-show-errors --endpoint-url {s3.endpoint_url}",
        "TO": f"s3://{s3.bucket}/today/{name}",
        **s3.environment,
    }

    def run() -> Cost:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        with measured(home, servers) as cost:
            _call(["sh", "-c", script], environment)
        shutil.rmtree(home)
        return cost

    return Contestant(name, run)


def agent(node: AgentNode, servers: Servers) -> Contestant:
    """`etcd-agent snapshot create`, from the command to the manifest in the store, through the daemon."""

    def run() -> Cost:
        assert node.daemon is not None
        with measured(node.root, servers, node.daemon.pid) as cost:
            _call(node.command("snapshot", "create", "--json"), node.environment)
        return cost

    return Contestant("agent", run)


def _call(argv: list[str], environment: Mapping[str, str]) -> None:
    completed = subprocess.run(argv, env=dict(environment), capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {completed.returncode}: {completed.stderr or completed.stdout}")
