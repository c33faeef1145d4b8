"""A control-plane node that boots: etcd and the agent as its services, installed by the guide's own commands."""

import contextlib
import re
import shutil
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.sandbox.certificates import Authority
from tests.sandbox.nspawn_node import PROJECT, BootedNode, CanNotBoot, tree
from tests.setup import debian
from tests.setup.etcd import tools_folder

__all__ = ["CONFIG", "PKI", "BootedNode", "CanNotBoot", "install_commands", "running"]
GUIDE = PROJECT / "docs/operations.md"
# Where the node finds the clone of the repository, read-only.
CLONE = "/usr/src/etcd-agent"
ETCD_URL = "https://127.0.0.1:2379"
PKI = Path("/etc/etcd/pki")
TOOLS = Path("/usr/local/bin")
# What the guide says is needed, where this machine does not have it.
NEEDED = """
python3 -c 'import ensurepip' 2>/dev/null && exit
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install python3-venv
"""
ETCD_UNIT = f"""\
[Unit]
Description=etcd
[Service]
Type=notify
ExecStart={TOOLS}/etcd --name=node-1 --data-dir=/var/lib/etcd --log-level=warn \\
  --listen-client-urls={ETCD_URL} --advertise-client-urls={ETCD_URL} --client-cert-auth=true \\
  --trusted-ca-file={PKI}/ca.crt --cert-file={PKI}/node-1.crt --key-file={PKI}/node-1.key
[Install]
WantedBy=multi-user.target
"""
CONFIG = f"""\
cluster = "booted"
snapshot.schedule = false
[etcd]
endpoints = ["{ETCD_URL}"]
ca_cert = "{PKI}/ca.crt"
cert = "{PKI}/node-1.crt"
key = "{PKI}/node-1.key"
"""


@contextlib.contextmanager
def running(folder: Path, *, config: str = CONFIG) -> Iterator[BootedNode]:
    """A node that has booted, with etcd and the agent as its services. Raises CanNotBoot."""
    with tree(folder) as node:
        prepare(node)
        before, after = install_commands()
        install(node, before)
        node.write("/etc/etcd-agent/config.toml", config)
        node.boot()
        node.run("sh", "-euc", after)
        yield node


def prepare(node: BootedNode) -> None:
    """Makes a control-plane node of the tree: a machine id of its own, a lasting journal, etcd, and little else."""
    for wanted in node.path("/etc/systemd/system").glob("*.wants"):
        shutil.rmtree(wanted)  # this machine's services are not the node's
    node.path("/etc/machine-id").unlink(missing_ok=True)
    node.write("/etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    node.write("/etc/hostname", "node-1\n")
    shutil.rmtree(node.path("/var/log/journal"), ignore_errors=True)
    node.path("/var/log/journal").mkdir(parents=True)
    for tool in ("etcd", "etcdctl", "etcdutl"):
        target = node.path(TOOLS / tool)
        target.unlink(missing_ok=True)
        shutil.copy(tools_folder("3.5") / tool, target)
    Authority(node.path(PKI)).issue("node-1", "127.0.0.1", "localhost")
    node.write("/etc/systemd/system/etcd.service", ETCD_UNIT)
    wants = node.path("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir()
    (wants / "etcd.service").symlink_to("../etcd.service")


def install_commands() -> tuple[str, str]:
    """The guide's commands to install: what comes before the configuration is edited, and what comes after it."""
    section = GUIDE.read_text().partition("\n## Install on a node\n")[2].partition("\n## ")[0]
    block = re.search(r"\n\n((?:    .*\n)+)", section)
    assert block is not None, f"{GUIDE}: no commands under 'Install on a node'"
    before, edit, after = textwrap.dedent(block[1]).partition("# edit ")
    assert edit, f"{GUIDE}: the commands do not say when to edit the configuration"
    return before, after.partition("\n")[2]


def install(node: BootedNode, commands: str) -> None:
    """Runs the guide's commands in a clone of the repository."""
    cache = debian.cache() / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    binds = [f"--bind-ro={PROJECT}:{CLONE}", f"--bind={cache}:/root/.cache/pip", f"--chdir={CLONE}"]
    node.run_unbooted(NEEDED)
    # As hardened nodes have it for root; what is installed must be readable all the same.
    node.run_unbooted(f"umask 077\n{commands}", *binds)
