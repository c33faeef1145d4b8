"""Records what a version's tools print, in success and in each failure, from real clusters of that version.

`python -m tests.etcd_versions.record_outputs 3.6` writes `tests/unit/samples/<exact version>/`.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.etcd_versions.story import Told, tell
from tests.setup import etcd
from tests.unit.recorded import SAMPLES


def main() -> int:
    """Records each version named; one that is not here ends the program with the way to get it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="such as 3.6")
    for version in parser.parse_args().versions:
        tools = etcd.tools_folder(version)
        with tempfile.TemporaryDirectory(prefix="etcd-outputs-") as folder:
            told = tell(tools, Path(folder))
        target = SAMPLES / exact_version(tools)
        write(told, target)
        print(f"{len(told)} outputs in {target}")
    return 0


def exact_version(tools: Path) -> str:
    """The release of the server in that folder, such as 3.6.16."""
    said = subprocess.run([str(tools / "etcd"), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"etcd Version: (\S+)", said)
    assert found is not None, said
    return found[1]


def write(told: list[Told], target: Path) -> None:
    """One file for each answer, and all failures in one."""
    target.mkdir(exist_ok=True)
    for output in told:
        if output.is_answer:
            (target / f"{output.name}.json").write_text(output.stdout)
    rows = [
        {"name": one.name, "cmd": one.command, "rc": one.returncode, "stdout": one.stdout, "stderr": one.stderr}
        for one in told
        if not one.is_answer
    ]
    (target / "failures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
