"""etcd for the tests and the sandbox, by version: out of the cache, `ETCD_BIN_DIR/<version>/`, or Debian's packages.

Never from PATH: a test says which version it ran. Standard library only.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian

# version -> (Debian suite, packages); 3.4 has no etcdutl of its own
DEBIAN = {
    "3.4": ("bookworm", ("etcd-server", "etcd-client")),
    "3.5": ("trixie", ("etcd-server", "etcd-client")),
}


def tools_folder(version: str) -> Path:
    """The folder with etcd, etcdctl and, from 3.5 on, etcdutl. Ends the program when there is none."""
    if given := os.environ.get("ETCD_BIN_DIR"):
        folder = Path(given) / version
        if (folder / "etcd").exists():
            return folder.resolve()
    if version in DEBIAN:
        suite, packages = DEBIAN[version]
        return debian.unpack(suite, packages, debian.cache() / "debian" / f"etcd-{version}") / "usr/bin"
    sys.exit(f"no etcd {version}: put etcd, etcdctl and etcdutl into ETCD_BIN_DIR/{version}/")


def present() -> list[str]:
    """The versions that need no fetching."""
    cached = [version for version in DEBIAN if (debian.cache() / "debian" / f"etcd-{version}" / "current").exists()]
    given = Path(os.environ.get("ETCD_BIN_DIR") or "/nonexistent")
    return sorted({*cached, *(path.parent.name for path in given.glob("*/etcd"))})


def main() -> int:
    """Fetches every version that Debian has."""
    for version in DEBIAN:
        print(f"etcd {version}: {tools_folder(version)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
