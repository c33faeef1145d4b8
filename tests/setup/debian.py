"""Debian packages fetched and unpacked beside the system: nothing is installed, no root is needed.

Private lists and an empty dpkg status, so that neither what this machine has installed nor its pins shadow the
candidate. The mirror and the keyring are the machine's own; only the suite is replaced. Standard library only.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = re.compile(r"https?://\S+/debian/?$")
STANZA_FIELD = re.compile(r"^(URIs|Signed-By):\s*(.*)$", re.IGNORECASE | re.MULTILINE)
ONE_LINE = re.compile(r"^\s*deb\s+(?:\[([^]]*)\]\s+)?(https?://\S+)\s", re.MULTILINE)


def cache() -> Path:
    """Where fetched things are kept: $ETCD_AGENT_CACHE, or `.cache` of the project."""
    return Path(os.environ.get("ETCD_AGENT_CACHE") or PROJECT / ".cache").resolve()


def unpack(suite: str, packages: Sequence[str], target: Path) -> Path:
    """Unpacks packages of a suite below `target/<digest of their files>/` and returns that folder.

    Ends the program with a message that names what is missing (apt, dpkg, the network).
    """
    newest = target / "current"
    if newest.exists():
        return newest.resolve()
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: {', '.join(packages)} come from Debian's packages; use a Debian machine")
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:  # two test runs, or two workers of one, may need it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return newest.resolve() if newest.exists() else _unpacked(suite, packages, target)


def _unpacked(suite: str, packages: Sequence[str], target: Path) -> Path:
    work, newest = target / "fetch", target / "current"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    _fetch(suite, packages, work)
    archives = sorted(work.glob("*.deb"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(archive.read_bytes()).digest() for archive in archives)).hexdigest()
    folder = target / digest[:16]
    shutil.rmtree(folder, ignore_errors=True)
    for archive in archives:
        _run(["dpkg", "-x", str(archive), str(folder)], f"{archive.name} can not be unpacked")
    shutil.rmtree(work)
    newest.unlink(missing_ok=True)
    newest.symlink_to(folder.name)
    return folder


def source_line(suite: str, sources: Path = Path("/etc/apt")) -> str:
    """The machine's own Debian mirror as a one-line source of another suite."""
    parts = sorted([*sources.glob("sources.list.d/*.sources"), *sources.glob("sources.list.d/*.list")])
    for path in (*parts, sources / "sources.list"):
        if not path.exists():
            continue
        if found := _mirror(path.read_text(), deb822=path.suffix == ".sources"):
            mirror, keyring = found
            signed = f"[signed-by={keyring}] " if keyring else ""
            return f"deb {signed}{mirror} {suite} main\n"
    sys.exit(f"no Debian mirror in {sources}/sources.list or sources.list.d: name one there")


def _mirror(text: str, *, deb822: bool) -> tuple[str, str] | None:
    if deb822:
        for stanza in re.split(r"\n\s*\n", text):
            fields = {name.lower(): value.split() for name, value in STANZA_FIELD.findall(stanza)}
            for uri in fields.get("uris", []):
                if MIRROR.match(uri):
                    return uri, " ".join(fields.get("signed-by", [])) or _default_keyring()
        return None
    for options, uri in ONE_LINE.findall(text):
        if MIRROR.match(uri):
            signed = re.search(r"signed-by=(\S+)", options)
            return uri, signed[1] if signed else _default_keyring()
    return None


def _default_keyring() -> str:
    return DEFAULT_KEYRING if Path(DEFAULT_KEYRING).exists() else ""


def _fetch(suite: str, packages: Sequence[str], work: Path) -> None:
    state, source = work / "state", work / "sources.list"
    for folder in (state / "lists/partial", work / "cache/archives/partial"):
        folder.mkdir(parents=True)
    (state / "status").touch()
    (state / "extended_states").touch()
    source.write_text(source_line(suite))
    options = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::State::extended_states": state / "extended_states",
        "Dir::Cache": work / "cache",
        "Dir::Cache::archives": work / "cache/archives",
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "-",
    }
    apt = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    what = f"{', '.join(packages)} of Debian {suite} can not be fetched"
    _run([*apt, "update"], what, folder=work)
    _run([*apt, "download", *packages], what, folder=work)


def _run(argv: Sequence[str], what: str, folder: Path | None = None) -> None:
    completed = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        output = (completed.stderr or completed.stdout).strip()[-1500:]
        sys.exit(f"{what}:\n{output}\n  next: is the Debian mirror of /etc/apt reachable from here?")
