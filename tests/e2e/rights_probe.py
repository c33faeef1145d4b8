"""Says what a program may do under the unit's settings: run by systemd before the daemon. Standard library only."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

# A folder that the modes alone would let it write.
EVERYONES = "/srv/everyones"
FOLDERS = (
    "/", "/boot", "/etc", "/etc/etcd-agent", "/home", "/opt/etcd-agent", "/root", "/srv", "/usr", "/usr/local/bin",
    "/var/lib", "/var/lib/etcd", "/var/lib/etcd-agent", "/var/log", "/var/log/etcd-agent", "/run", "/run/etcd-agent",
    EVERYONES,
)  # fmt: skip


def refused(act: Callable[[], object]) -> str:
    """Why an act is refused, "" when it is not."""
    try:
        act()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def write(folder: str) -> None:
    path = Path(folder, ".probe")
    path.write_text("")
    path.unlink()


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "writes": [folder for folder in FOLDERS if not refused(lambda folder=folder: write(folder))],  # type: ignore[misc]
                "key": refused(lambda: Path("/etc/etcd/pki/node-1.key").read_text()),
                "chown": refused(lambda: os.chown("/var/lib/etcd-agent", 0, 0)),
                "packets": refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
                "others": sorted({entry.stat().st_uid for entry in Path("/proc").iterdir() if entry.name.isdigit()}),
                "own": os.getuid(),
            }
        )
    )
