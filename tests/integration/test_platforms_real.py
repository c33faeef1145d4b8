"""A real etcd started by what a platform's own files say, and the agent beside it without any configuration."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import plain_trees, platform_trees
from tests.sandbox.free_ports import free_port
from tests.sandbox.platform_trees import Tree
from tests.sandbox.processes import Processes, wait_until
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
VERSION = "3.5"


@dataclass
class Machine:
    """One root folder with its etcd and its daemon; no configuration, no variable but root and PATH."""

    tree: Tree
    tools: Path
    processes: Processes

    @property
    def environment(self) -> dict[str, str]:
        root = str(self.tree.root)
        return {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOME": root, "ETCD_AGENT_ROOT": root, "LANG": "C.UTF-8"}

    def agent(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "agent", *arguments], env=self.environment, capture_output=True, text=True,
            check=False, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start_etcd(self, flags: Sequence[str], **variables: str) -> None:
        """Runs etcd as the platform would: its own flags and variables, with paths below this root."""
        below = [re.sub(r"^(--[a-z-]+=)/", rf"\g<1>{self.tree.root}/", flag) for flag in flags]
        argv = [str(self.tools / "etcd"), *below, "--logger=zap", "--log-level=warn"]
        child = self.processes.start("etcd", argv, {"PATH": "/usr/bin:/bin", **variables})
        wait_until(lambda: self.status()["parts"]["cluster"] is not None, "etcd does not answer", child=child)

    def start_daemon(self) -> None:
        log = self.tree.path("/var/log/etcd-agent/agent.jsonl")
        child = self.processes.start("daemon", [sys.executable, "-m", "agent", "run"], self.environment)
        wait_until(lambda: log.exists() and '"daemon.started"' in log.read_text(), "no daemon", child=child)

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.agent("status", "--json").stdout)
        return document

    def takes_a_snapshot(self) -> dict[str, Any]:
        """Takes one through the daemon, and returns its manifest."""
        self.start_daemon()
        created = self.agent("snapshot", "create", "--json")
        assert created.returncode == 0, created.stdout + created.stderr
        manifest: dict[str, Any] = json.loads(self.agent("snapshot", "show", "latest", "--json").stdout)["manifest"]
        return manifest


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if VERSION not in etcd.present():
        pytest.skip(f"etcd {VERSION} is not in the cache; `make etcd` fetches it")
    with Processes(tmp_path / "logs") as processes:
        made = Machine(Tree(tmp_path / "root"), etcd.tools_folder(VERSION), processes)
        made.tree.root.mkdir()
        yield made
        assert not made.tree.path("/etc/etcd-agent").exists()


def is_well(document: dict[str, Any], platform: str, endpoint: str) -> bool:
    """Whether status shows that platform and its healthy member; a daemon and a snapshot may still be missing."""
    assert document["parts"]["platform"]["name"] == platform
    assert document["parts"]["member"]["endpoint"] == endpoint
    assert document["parts"]["cluster"]["healthy_voters"] == 1
    return {one["part"] for one in document["problems"]} <= {"daemon", "snapshot"}


def test_kubeadm(machine: Machine) -> None:
    client, peer = (f"https://127.0.0.1:{free_port()}" for _ in range(2))
    flags = {
        "advertise-client-urls": client, "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
        "initial-cluster": f"node-1={peer}", "listen-metrics-urls": f"http://127.0.0.1:{free_port()}",
    }  # fmt: skip
    platform_trees.kubeadm(machine.tree, listen=client, flags=flags)
    manifest = machine.tree.path("/etc/kubernetes/manifests/etcd.yaml").read_text()
    machine.tree.path("/var/lib/etcd/member/snap").rmdir()
    machine.tree.path("/var/lib/etcd/member").rmdir()
    machine.start_etcd(re.findall(r"^    - (--[a-z-]+=.*)$", manifest, re.MULTILINE))
    assert is_well(machine.status(), "kubeadm", client)
    made = machine.takes_a_snapshot()
    assert made["checks"][0]["outcome"] == "passed"
    assert made["fingerprints"].keys() == {"cluster_ca", "etcd_ca", "service_account_key"}
    document = machine.status()
    assert document["healthy"], document["problems"]


def test_plain_etcd_with_tls(machine: Machine) -> None:
    client, peer = f"https://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    flags = {
        "listen-client-urls": client, "advertise-client-urls": client, "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer, "initial-cluster": f"node-1={peer}", "data-dir": "/srv/etcd",
    }  # fmt: skip
    plain_trees.upstream(machine.tree, flags)
    unit = machine.tree.path("/etc/systemd/system/etcd.service").read_text()
    words = re.findall(r"^  (--[a-z-]+) (\S+) \\$", unit, re.MULTILINE)
    machine.start_etcd([*(f"{name}={value}" for name, value in words), "--client-cert-auth"])
    assert is_well(machine.status(), "plain", client)
    assert machine.takes_a_snapshot()["fingerprints"].keys() == {"etcd_ca"}
    document = machine.status()
    assert document["healthy"], document["problems"]


def test_debians_package(machine: Machine) -> None:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    variables = {
        "ETCD_LISTEN_CLIENT_URLS": client, "ETCD_ADVERTISE_CLIENT_URLS": client, "ETCD_LISTEN_PEER_URLS": peer,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer, "ETCD_INITIAL_CLUSTER": f"default={peer}", "ETCD_NAME": "default",
    }  # fmt: skip
    plain_trees.debian(machine.tree, defaults="".join(f'{name}="{value}"\n' for name, value in variables.items()))
    machine.tree.path("/var/lib/etcd/default/member/snap").rmdir()
    machine.tree.path("/var/lib/etcd/default/member").rmdir()
    data_dir = machine.tree.path("/var/lib/etcd/default")
    machine.start_etcd([], **variables, ETCD_DATA_DIR=str(data_dir))
    document = machine.status()
    assert is_well(document, "plain", client)
    assert document["parts"]["platform"]["found"]["etcd.data_dir"]["value"] == str(data_dir)
    assert (data_dir / "member/snap/db").exists()
    machine.takes_a_snapshot()
    document = machine.status()
    assert document["healthy"], document["problems"]


def test_a_second_platform_that_comes_later_is_the_result_of_what_is_asked(machine: Machine) -> None:
    platform_trees.kubeadm(machine.tree)
    machine.start_daemon()
    plain_trees.debian(machine.tree)
    created = machine.agent("snapshot", "create", "--json")
    assert created.returncode == 2
    assert json.loads(created.stdout)["result"]["error"]["code"] == "config_invalid"
    assert "the etcd of 2 platforms" in created.stdout
    assert "Traceback" not in created.stdout + created.stderr
