"""A real etcd cluster on loopback addresses: mutual TLS for clients and peers, one folder per member."""

import contextlib
import http.client
import json
import os
import signal
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.certificates import Authority, Certificate
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Child, Processes, wait_until

START_TIMEOUT_S = 60.0


@dataclass
class EtcdMember:
    """One member and how it is reached."""

    name: str
    address: str
    client_port: int
    peer_port: int
    folder: Path
    certificate: Certificate
    child: Child | None = None

    @property
    def client_url(self) -> str:
        return f"https://{self.address}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"https://{self.address}:{self.peer_port}"

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """An HTTPS connection to etcd's JSON gateway with this member's certificate."""
        context = ssl.create_default_context(cafile=self.certificate.ca_cert)
        context.load_cert_chain(self.certificate.cert, self.certificate.key)
        connection = http.client.HTTPSConnection(self.address, self.client_port, timeout=30, context=context)
        with contextlib.closing(connection):
            yield connection

    def is_healthy(self) -> bool:
        """Whether a linearizable read through this member works."""
        try:
            with self.connection() as connection:
                connection.request("GET", "/health")
                answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return bool(answer.get("health") == "true")


class EtcdCluster:
    """Three members by default, started together and stopped with `processes`."""

    def __init__(self, processes: Processes, folder: Path, tools: Path, *, size: int = 3) -> None:
        self._processes = processes
        self._tools = tools
        self._folder = folder
        self.authority = Authority(folder / "pki")
        self.members = [self.new_member(number) for number in range(1, size + 1)]

    def new_member(self, number: int) -> EtcdMember:
        """A machine for one member more, `node-<number>`: no part of the cluster, and not started."""
        return _member(f"node-{number}", number, self._folder, self.authority)

    def start(self) -> None:
        """Starts every member and waits until each one answers linearizable reads."""
        for member in self.members:
            self.start_member(member)
        for member in self.members:
            wait_until(
                member.is_healthy, f"etcd {member.name} is not healthy", timeout_s=START_TIMEOUT_S, child=member.child
            )

    def start_member(
        self, member: EtcdMember, *, tools: Path | None = None, joins: bool = False, flags: Sequence[str] = ()
    ) -> None:
        """Starts one member, again too; does not wait for it.

        `tools` is the folder of another etcd; `joins` is for a new machine that the cluster added as a member; `flags`
        come after the sandbox's own.
        """
        machines = [*self.members, member] if joins else self.members
        initial = ",".join(f"{other.name}={other.peer_url}" for other in machines)
        program = str((tools or self._tools) / "etcd")
        argv = [program, *_flags(member, initial, "existing" if joins else "new"), *flags]
        member.child = self._processes.start(f"etcd-{member.name}", argv, {"PATH": "/usr/bin:/bin"})

    def stop_member(self, member: EtcdMember) -> None:
        """Ends one member, as a service manager does."""
        assert member.child is not None
        self._processes.stop(member.child)


@contextlib.contextmanager
def frozen(*members: EtcdMember) -> Iterator[None]:
    """Members that neither answer nor end; healthy again afterwards."""
    pids = [member.child.pid for member in members if member.child is not None]
    assert len(pids) == len(members)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        for member in members:
            wait_until(member.is_healthy, f"{member.name} does not go on", child=member.child)


def call(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call of etcd's JSON gateway. Raises RuntimeError with its answer."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(f"{path}: {response.status} {content[:300]!r}")
    answer: dict[str, Any] = json.loads(content)
    return answer


def _member(name: str, number: int, folder: Path, authority: Authority) -> EtcdMember:
    address = f"127.0.0.{10 + number}"
    client_port, peer_port = free_port(address), free_port(address)
    certificate = authority.issue(name, address, "127.0.0.1", "localhost")
    return EtcdMember(name, address, client_port, peer_port, folder / name, certificate)


def _flags(member: EtcdMember, initial_cluster: str, state: str) -> Sequence[str]:
    tls = member.certificate
    values = {
        "name": member.name,
        "data-dir": member.folder / "data",
        "listen-client-urls": member.client_url,
        "advertise-client-urls": member.client_url,
        "listen-peer-urls": member.peer_url,
        "initial-advertise-peer-urls": member.peer_url,
        "initial-cluster": initial_cluster,
        "initial-cluster-token": "sandbox",
        "initial-cluster-state": state,
        "trusted-ca-file": tls.ca_cert,
        "cert-file": tls.cert,
        "key-file": tls.key,
        "client-cert-auth": "true",
        "peer-trusted-ca-file": tls.ca_cert,
        "peer-cert-file": tls.cert,
        "peer-key-file": tls.key,
        "peer-client-cert-auth": "true",
        "logger": "zap",
        "log-level": "warn",
    }
    return [f"--{name}={value}" for name, value in values.items()]
