"""A whole control plane on loopback: three etcd members, an agent on each node, S3, SSM and Auto Scaling."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import nodes, s3_server
from tests.sandbox.aws_stand_ins import StandIns, running_stand_ins
from tests.sandbox.etcd_cluster import EtcdCluster
from tests.sandbox.nodes import AgentNode
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import S3Server
from tests.setup.etcd import tools_folder


@dataclass
class ControlPlane:
    """What runs, and where."""

    folder: Path
    tools: Path
    processes: Processes
    etcd: EtcdCluster
    s3: S3Server | None
    nodes: list[AgentNode]
    aws: StandIns

    @property
    def lambda_log(self) -> Path:
        """Where the lines of the Lambda are kept: on AWS they go to a log group of its own."""
        return self.folder / "lambda.jsonl"

    def node(self, instance_id: str) -> AgentNode:
        """The node of an instance."""
        return next(node for node in self.nodes if node.instance_id == instance_id)

    def restart_daemon(self, node: AgentNode) -> None:
        """Starts a node's daemon again, after it ended."""
        nodes.start(self.processes, node)


@contextlib.contextmanager
def running(
    folder: Path, *, etcd_version: str = "3.5", size: int = 3, with_s3: bool = True,
    agent_tools: Callable[[Path], Path] = lambda tools: tools,
) -> Iterator[ControlPlane]:  # fmt: skip
    """Boots it below `folder`, which is emptied first; everything that was started is gone afterwards.

    `agent_tools` may put other tools between the agents and etcd's own.
    """
    tools = tools_folder(etcd_version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Processes(folder / "logs") as processes:
        cluster = EtcdCluster(processes, folder, tools, size=size)
        cluster.start()
        s3 = s3_server.start(processes, folder) if with_s3 else None
        made = nodes.make(cluster.members, folder, agent_tools(tools), s3)
        for node in made:
            nodes.start(processes, node)
        machines = {node.instance_id: node.machine_environment for node in made}
        with running_stand_ins(folder, machines) as aws:
            yield ControlPlane(folder, tools, processes, cluster, s3, made, aws)
