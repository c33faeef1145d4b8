"""An etcdctl in front of the real one, which waits in the middle of a snapshot for as long as a test wants."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sandbox.booted_node import BootedNode
from tests.sandbox.processes import wait_until

FOLDER = Path("/usr/local/lib/etcd-tools")
HOLD = Path("/run/hold-snapshots")
STATE = Path("/var/lib/etcd-agent")
ETCDCTL = f"""\
#!/bin/sh
/usr/local/bin/etcdctl "$@" || exit
case " $* " in *" snapshot save "*) ;; *) exit 0 ;; esac
for path do :; done
[ -e {HOLD} ] || exit 0
mv "$path" "$path.part"
while [ -e {HOLD} ]; do sleep 0.05; done
mv "$path.part" "$path"
"""


def install(node: BootedNode) -> None:
    """Puts the tools into a folder for `etcd.tools_dir`."""
    node.write(FOLDER / "etcdctl", ETCDCTL, 0o755)
    node.path(FOLDER / "etcdutl").symlink_to("/usr/local/bin/etcdutl")


@contextlib.contextmanager
def held(node: BootedNode, op_id: str) -> Iterator[None]:
    """A new snapshot operation that is half-way through its save; it goes on when the block ends."""
    node.write(HOLD, "")
    try:
        node.run("etcd-agent", "submit", "snapshot", "--op-id", op_id, "--no-wait")
        wait_until(lambda: parts(node) != [], f"{op_id} does not get to its save")
        yield
    finally:
        node.path(HOLD).unlink(missing_ok=True)  # a boot may have taken it away


def parts(node: BootedNode) -> list[Path]:
    """The half-written snapshots."""
    return list(node.path(STATE / "work").rglob("*.part"))


def record(node: BootedNode, op_id: str, state: str) -> dict[str, Any]:
    """The operation's file in a folder of the spool."""
    found: dict[str, Any] = json.loads(node.path(STATE / f"spool/{state}/{op_id}.json").read_text())
    return found


def until_done(node: BootedNode, op_id: str) -> dict[str, Any]:
    """The operation's file once it has succeeded."""
    wait_until(node.path(STATE / f"spool/done/{op_id}.json").exists, f"{op_id} does not end", timeout_s=60)
    return record(node, op_id, "done")


def manifests(node: BootedNode, op_id: str) -> list[Path]:
    """The manifests that an operation left."""
    paths = node.path(STATE / "snapshots").glob("*/manifest/*/*.json")
    return [path for path in paths if json.loads(path.read_text()).get("op_id") == op_id]
