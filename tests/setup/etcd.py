"""etcd for the tests and the sandbox, by version: `ETCD_BIN_DIR/<version>/`, Debian's packages, or built from source.

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
# version -> the release that `make tools` builds where there is Go: the newest of its minor version
BUILT = {"3.6": "3.6.16", "3.7": "3.7.3"}
VERSIONS = (*DEBIAN, *BUILT)


def tools_folder(version: str) -> Path:
    """The folder with etcd, etcdctl and, from 3.5 on, etcdutl. Ends the program when there is none."""
    if given := os.environ.get("ETCD_BIN_DIR"):
        folder = Path(given) / version
        if (folder / "etcd").exists():
            return folder.resolve()
    if version in DEBIAN:
        suite, packages = DEBIAN[version]
        return debian.unpack(suite, packages, debian.cache() / "debian" / f"etcd-{version}") / "usr/bin"
    if version in BUILT and built_folder(version).exists():
        return built_folder(version)
    sys.exit(f"no etcd {version}: {how_to_get(version)}")


def how_to_get(version: str) -> str:
    """What to do where a version is missing."""
    by_hand = f"put etcd, etcdctl and etcdutl into ETCD_BIN_DIR/{version}/"
    if version in BUILT:
        return f"`make tools` builds it where there is Go, or {by_hand}"
    return f"`make etcd` fetches it, or {by_hand}" if version in DEBIAN else by_hand


def built_folder(version: str) -> Path:
    """Where `make tools` puts what it built of a minor version."""
    return debian.cache() / "tools" / f"etcd-{BUILT[version]}"


def present() -> list[str]:
    """The versions that need no fetching and no building."""
    cached = [version for version in DEBIAN if (debian.cache() / "debian" / f"etcd-{version}" / "current").exists()]
    built = [version for version in BUILT if built_folder(version).exists()]
    given = Path(os.environ.get("ETCD_BIN_DIR") or "/nonexistent")
    return sorted({*cached, *built, *(path.parent.name for path in given.glob("*/etcd"))})


def main() -> int:
    """Fetches every version that Debian has."""
    for version in DEBIAN:
        print(f"etcd {version}: {tools_folder(version)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
