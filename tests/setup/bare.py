"""The demo on a bare Debian 12: nothing but git, make and python3, as root and as a normal user. Needs root.

A minimal tree by debootstrap, entered by chroot with this machine's package sources, resolver and certificate
authorities, and an environment that is otherwise empty. Standard library only.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
USER = "tester"
FROM_HOST = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> int:
    """Runs the given make targets in the tree, twice for each user; returns the first failure's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=Path("/var/tmp/etcd-agent-bare"), help="where the tree is made")
    parser.add_argument("targets", nargs="*", default=["demo"])
    wanted = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: debootstrap and chroot do; run it by sudo")
    if shutil.which("debootstrap") is None:
        sys.exit("debootstrap is missing: apt-get install debootstrap")
    try:
        _make_tree(wanted.tree)
        return _run_all(wanted.tree, wanted.targets)
    finally:
        shutil.rmtree(wanted.tree, ignore_errors=True)


def _make_tree(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    _run(["debootstrap", "--variant=minbase", "--include=git,make,python3", "bookworm", str(tree)])
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    shutil.copytree("/etc/apt/sources.list.d", tree / "etc/apt/sources.list.d", dirs_exist_ok=True)
    for name in (*FROM_HOST, "/etc/apt/sources.list"):
        source, target = Path(name), tree / name.lstrip("/")
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    _run(["chroot", str(tree), "useradd", "--create-home", USER])
    for user, home in (("root", "root"), (USER, f"home/{USER}")):
        _run(["git", "clone", "-q", "--no-hardlinks", str(PROJECT), str(tree / home / "etcd-agent")])
        _run(["chroot", str(tree), "chown", "-R", f"{user}:", f"/{home}/etcd-agent"])


def _run_all(tree: Path, targets: Sequence[str]) -> int:
    with _mounted(tree):
        for user, home in (("root", "/root"), (USER, f"/home/{USER}")):
            for time in ("first", "second"):
                print(f"== make {' '.join(targets)} as {user}, the {time} time", flush=True)
                script = f"cd {home}/etcd-agent && exec make {' '.join(targets)}"
                environment = {"PATH": PATH, "HOME": home, "USER": user, "TERM": "dumb"}
                argv = ["chroot", f"--userspec={user}:{user}", str(tree), "/bin/sh", "-c", script]
                code = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
                if code != 0:
                    return code
    return 0


@contextmanager
def _mounted(tree: Path) -> Iterator[None]:
    """/proc and /dev of this machine inside the tree, gone again afterwards."""
    mounts = [("proc", "proc", tree / "proc"), ("devtmpfs", "devtmpfs", tree / "dev")]
    mounted: list[Path] = []
    try:
        for kind, device, target in mounts:
            _run(["mount", "-t", kind, device, str(target)])
            mounted.append(target)
        yield
    finally:
        for target in reversed(mounted):
            subprocess.run(["umount", "--lazy", str(target)], check=False)


def _run(argv: Sequence[str]) -> None:
    if (code := subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode) != 0:
        sys.exit(f"failed ({code}): {' '.join(argv)}")


if __name__ == "__main__":
    sys.exit(main())
