"""Builds what only comes as Go source: versitygw, the S3 server that proves integrity. Standard library only."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian

VERSITYGW = "v1.7.0"
LEAST_GO = (1, 25)


def main() -> int:
    """Builds into the cache; says why it skips when there is no Go that fits."""
    target = debian.cache() / "tools"
    mark = target / f"versitygw-{VERSITYGW}"
    if mark.exists():
        print(f"versitygw {VERSITYGW}: {target / 'versitygw'}")
        return 0
    if reason := _no_go():
        print(f"skipped versitygw: {reason}; S3 tests run against moto, which proves no integrity")
        return 0
    build = target / "build"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOBIN": str(build), "CGO_ENABLED": "0"}
    package = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
    print(f"building {package} …", flush=True)
    if subprocess.run(["go", "install", package], env=environment, check=False).returncode != 0:
        print("  next: is the Go module proxy reachable from here?", file=sys.stderr)
        return 1
    (build / "versitygw").replace(target / "versitygw")
    shutil.rmtree(build)
    mark.touch()
    return 0


def _no_go() -> str:
    if shutil.which("go") is None:
        return "there is no go on PATH"
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    words = subprocess.run(["go", "version"], capture_output=True, text=True, env=environment, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", words)
    if found is None or (int(found[1]), int(found[2])) < LEAST_GO:
        return f"it needs Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer, there is {words.strip() or 'none that answers'}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
