"""A root folder as a container image makes it: etcd, its tools and the libraries they need, and nothing else."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.setup import etcd

FOLDERS = ("proc", "sys", "dev", "run", "tmp", "etc", "var/lib/etcd")
PROGRAMS = "usr/local/bin"


def make_image(root: Path, version: str) -> None:
    """Fills `root` with etcd of that version and whichever of its tools there are."""
    for folder in (*FOLDERS, PROGRAMS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    tools = etcd.tools_folder(version)
    for name in ("etcd", "etcdctl", "etcdutl"):
        if (tools / name).exists():
            shutil.copy(tools / name, root / PROGRAMS)
            for library in libraries(tools / name):
                (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library.lstrip("/"))


def libraries(program: Path) -> list[str]:
    """The files that a program needs to run, none for a static one."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", told)


def etcd_command(
    image: Path, data: Path, client_url: str, peer_url: str, *, own_network: bool = False, program: str = "etcd"
) -> list[str]:
    """What starts an image's etcd as a container engine does: its root folder, its mounts, perhaps its own network.

    Root only. `data` is a folder of the host, mounted where the image has it.
    """
    spaces = ["--mount", "--propagation=private", *(["--net"] if own_network else [])]
    network = "ip link set lo up; " if own_network else ""
    script = f'{network}mount --bind "$2" "$1/var/lib/etcd"; root=$1; shift 2; exec chroot "$root" "$@"'
    return [
        "unshare", *spaces, "--", "sh", "-euc", script, "sh", str(image), str(data),
        f"/{PROGRAMS}/{program}", "--name=node-1", "--data-dir=/var/lib/etcd", "--log-level=error",
        f"--listen-client-urls={client_url}", f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=node-1={peer_url}",
    ]  # fmt: skip
