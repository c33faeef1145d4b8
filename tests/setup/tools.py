"""Builds what only comes as Go source: versitygw, the S3 server that proves integrity, and etcd from 3.6 on.

Standard library only.
"""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian, etcd, go

VERSITYGW = "v1.7.0"
# What each needs at least: the `go` line of its go.mod.
VERSITYGW_GO = (1, 25)
ETCD_GO = (1, 26)
# The module's last element -> the program that is built out of it.
ETCD_PROGRAMS = {"server": "etcd", "etcdctl": "etcdctl", "etcdutl": "etcdutl"}


def main() -> int:
    """Builds into the cache what is not there; says why it skips where there is no Go that fits."""
    target, kept = debian.cache() / "tools", debian.cache() / "go"
    builds = [partial(build_versitygw, target, kept), *(partial(build_etcd, target, kept, name) for name in etcd.BUILT)]
    with go.building(target):
        try:
            for build in builds:
                build()
        except go.BuildFailed as error:
            print(error, file=sys.stderr)
            return 1
        # Almost a gigabyte that is of use again only with other versions.
        shutil.rmtree(kept, ignore_errors=True)
    return 0


def build_versitygw(target: Path, kept: Path) -> None:
    """The program `versitygw` in `target`; the file beside it names its version."""
    mark = target / f"versitygw-{VERSITYGW}"
    if mark.exists():
        print(f"versitygw {VERSITYGW}: {target / 'versitygw'}", flush=True)
        return
    if reason := go.unfit(VERSITYGW_GO, kept):
        print(f"skipped versitygw: {reason}; S3 tests run against moto, which proves no integrity", flush=True)
        return
    package = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
    print(f"building {package} …", flush=True)
    with go.scratch(target) as work:
        go.run(["install", package], kept=kept, folder=Path(work), more={"GOBIN": work})
        Path(work, "versitygw").replace(target / "versitygw")
    mark.touch()


def build_etcd(target: Path, kept: Path, version: str) -> None:
    """etcd, etcdctl and etcdutl of a minor version such as `3.6`, in the folder that `etcd.tools_folder` names."""
    folder, exact = etcd.built_folder(version), etcd.BUILT[version]
    if folder.exists():
        print(f"etcd {exact}: {folder}", flush=True)
        return
    if reason := go.unfit(ETCD_GO, kept):
        print(f"skipped etcd {exact}: {reason}", flush=True)
        return
    print(f"building etcd {exact} …", flush=True)
    modules = [f"go.etcd.io/etcd/{name}/v3" for name in ETCD_PROGRAMS]
    # `go install` refuses a module with replace lines; for a dependency of a module of ours they mean nothing.
    with go.scratch(target) as work:
        module, made = Path(work), Path(work, "programs")
        made.mkdir()
        go.run(["mod", "init", "etcd-of-the-tests"], kept=kept, folder=module)
        go.run(["get", *(f"{path}@v{exact}" for path in modules)], kept=kept, folder=module)
        go.run(["build", "-trimpath", "-ldflags=-s -w", "-o", f"{made}/", *modules], kept=kept, folder=module)
        for name, program in ETCD_PROGRAMS.items():
            (made / name).replace(made / program)
            check_version(made / program, exact)
        made.rename(folder)


def check_version(program: Path, exact: str) -> None:
    """Raises BuildFailed unless the program runs here and says that it is that version."""
    words = [str(program), "--version" if program.name == "etcd" else "version"]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    if exact not in said.partition("\n")[0].split():
        raise go.BuildFailed(f"{program.name} was built, but is not version {exact}: it says {said[:100]!r}")


if __name__ == "__main__":
    sys.exit(main())
