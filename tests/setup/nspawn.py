"""systemd-nspawn, which boots a node of the tests: the machine's own, or Debian's beside the system.

Standard library only.
"""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian

# The program loads exactly the library of its own version, which the machine need not have.
PACKAGES = ("systemd-container", "libsystemd-shared")


@dataclass(frozen=True)
class Nspawn:
    """The program, and the folder of its library; "" for the one that is installed."""

    program: Path
    library: str = ""


def nspawn() -> Nspawn:
    """Finds or fetches it. Ends the program with a message that says how to get it."""
    if installed := shutil.which("systemd-nspawn"):
        return Nspawn(Path(installed))
    release = _release()
    try:
        folder = debian.unpack(release, PACKAGES, debian.cache() / "debian" / f"nspawn-{release}")
    except SystemExit as ended:
        sys.exit(f"there is no systemd-nspawn: install the package systemd-container\n{ended}")
    library = next(folder.glob("usr/lib/*/systemd/libsystemd-shared-*.so"), None)
    return Nspawn(folder / "usr/bin/systemd-nspawn", os.fspath(library.parent) if library else "")


def _release() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    if release.get("ID") == "debian" and "VERSION_CODENAME" in release:
        return release["VERSION_CODENAME"]
    sys.exit("there is no systemd-nspawn: install the package systemd-container; it is fetched only on Debian")


def main() -> int:
    """Fetches it, or says where it is."""
    print(f"systemd-nspawn: {nspawn().program}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
