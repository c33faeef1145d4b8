"""Real clusters of one version, and the agent's adapter to each of their members."""

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.config import EtcdConfig
from tests.sandbox.certificates import Authority
from tests.sandbox.etcd_cluster import EtcdCluster, EtcdMember, call
from tests.sandbox.processes import Processes
from tests.setup import etcd


@dataclass(frozen=True)
class Servers:
    """A running cluster, and how the agent reaches it."""

    version: str
    tools: Path
    cluster: EtcdCluster
    stranger: Authority
    """Certificates that this cluster does not know."""

    @property
    def members(self) -> list[EtcdMember]:
        return self.cluster.members

    @property
    def member(self) -> EtcdMember:
        """The first one."""
        return self.members[0]

    @property
    def config(self) -> EtcdConfig:
        """The agent's configuration at the first member."""
        return self.config_at(self.member)

    @property
    def client(self) -> Etcdctl:
        """The adapter at the first member."""
        return Etcdctl(self.config)

    def config_at(self, member: EtcdMember) -> EtcdConfig:
        """The agent's configuration on the machine of that member."""
        tls = member.certificate
        return EtcdConfig(
            endpoints=(member.client_url,), ca_cert=str(tls.ca_cert), cert=str(tls.cert), key=str(tls.key),
            tools_dir=str(self.tools), call_timeout_s=5,
        )  # fmt: skip

    def client_at(self, member: EtcdMember) -> Etcdctl:
        """The adapter on the machine of that member."""
        return Etcdctl(self.config_at(member))

    def with_config(self, **changes: Any) -> Etcdctl:
        """The adapter at the first member, configured otherwise."""
        return Etcdctl(msgspec.structs.replace(self.config, **changes))

    def gateway(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call of etcd's JSON gateway at the first member."""
        with self.member.connection() as connection:
            return call(connection, path, body)

    def put(self, key: str, value: str) -> int:
        """The revision of that write."""
        encoded = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
        return int(self.gateway("/v3/kv/put", encoded)["header"]["revision"])

    def alarm(self, action: str, member_id: int, kind: str) -> None:
        """Raises (`ACTIVATE`) or clears (`DEACTIVATE`) an alarm."""
        self.gateway("/v3/maintenance/alarm", {"action": action, "memberID": str(member_id), "alarm": kind})

    def etcdctl(self, *words: str) -> str:
        """What etcdctl prints at the first member; for what the agent itself does not do."""
        tls = self.member.certificate
        flags = ["--endpoints", self.member.client_url, "--cacert", tls.ca_cert, "--cert", tls.cert, "--key", tls.key]
        patience = ["--command-timeout=60s", "--dial-timeout=60s"]  # of a machine that has much else to do
        command = [str(word) for word in (self.tools / "etcdctl", *flags, *patience, *words)]
        ended = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@contextmanager
def running(version: str, tools: Path, folder: Path, *, size: int) -> Iterator[Servers]:
    """A cluster that is gone afterwards."""
    with Processes(folder / "logs") as processes:
        cluster = EtcdCluster(processes, folder, tools, size=size)
        cluster.start()
        yield Servers(version, tools, cluster, Authority(folder / "other-pki", "another organization"))


def tools_or_skip(version: str) -> Path:
    """The folder of a version's programs. Skips the test with the way to get them."""
    if version not in etcd.present():
        pytest.skip(f"etcd {version} is not here: {etcd.how_to_get(version)}")
    return etcd.tools_folder(version)
