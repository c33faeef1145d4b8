"""Setting up from nothing: the machine's own mirror with another suite, and a message for what is missing."""

import sys
from pathlib import Path

import pytest

from tests.sandbox import free_ports
from tests.setup import debian, etcd, go, tools, venv

DEB822 = """\
Types: deb
URIs: https://packages.example/other
Suites: stable
Components: main

Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/mirror.gpg
"""


def sources(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return folder


@pytest.mark.parametrize(
    "name, content, line",
    [
        (
            "sources.list.d/debian.sources",
            DEB822,
            "deb [signed-by=/usr/share/keyrings/mirror.gpg] http://mirror.example/debian trixie main\n",
        ),
        (
            "sources.list",
            "# deb http://commented.example/debian bookworm main\n"
            "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm main contrib\n",
            "deb [signed-by=/k.gpg] https://mirror.example/debian/ trixie main\n",
        ),
    ],
)
def test_the_machines_mirror_is_used_with_another_suite(tmp_path: Path, name: str, content: str, line: str) -> None:
    assert debian.source_line("trixie", sources(tmp_path, name, content)) == line


def test_no_mirror_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no Debian mirror"):
        debian.source_line("trixie", sources(tmp_path, "sources.list", "deb http://packages.example/other x main\n"))


def test_no_apt_is_told_with_what_it_was_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"apt-get is missing: etcd-server come from Debian's packages"):
        debian.unpack("trixie", ["etcd-server"], tmp_path / "cache")


def test_a_mirror_out_of_reach_is_told_with_what_it_was_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "deb [trusted=yes] http://127.0.0.1:9/debian trixie main\n"
    monkeypatch.setattr(debian, "source_line", lambda suite: nobody)
    monkeypatch.setenv("http_proxy", "")
    with pytest.raises(SystemExit, match=r"(?s)etcd-server of Debian trixie can not be fetched.*next: is the Debian"):
        debian.unpack("trixie", ["etcd-server"], tmp_path / "cache")
    assert not (tmp_path / "cache/current").exists()


def test_an_unknown_version_of_etcd_is_told_with_the_way_to_get_it() -> None:
    with pytest.raises(SystemExit, match=r"no etcd 9\.9: put etcd, etcdctl and etcdutl into ETCD_BIN_DIR/9\.9/"):
        etcd.tools_folder("9.9")


def test_given_binaries_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources(tmp_path, "3.5/etcd", "")
    monkeypatch.setenv("ETCD_BIN_DIR", str(tmp_path))
    assert etcd.tools_folder("3.5") == tmp_path / "3.5"


def test_an_interpreter_that_others_can_not_execute_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (private / "python3").chmod(0o755)
    monkeypatch.setenv("PYTHON", str(private / "python3"))
    monkeypatch.setattr(sys, "executable", str(private / "python3"))
    with pytest.raises(SystemExit, match=rf"other users can not execute it \({private}\)"):
        venv.choose_interpreter()


@pytest.mark.parametrize("version, way", [("3.5", "`make etcd` fetches it"), ("3.6", "`make tools` builds it")])
def test_the_way_to_a_missing_version_is_told(version: str, way: str) -> None:
    assert etcd.how_to_get(version).startswith(way)
    assert f"ETCD_BIN_DIR/{version}/" in etcd.how_to_get(version)


def test_what_is_built_is_found_by_its_minor_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_AGENT_CACHE", str(tmp_path))
    monkeypatch.delenv("ETCD_BIN_DIR", raising=False)
    with pytest.raises(SystemExit, match=r"no etcd 3\.6: `make tools` builds it where there is Go"):
        etcd.tools_folder("3.6")
    assert etcd.present() == []
    etcd.built_folder("3.6").mkdir(parents=True)
    assert etcd.tools_folder("3.6") == tmp_path / "tools" / f"etcd-{etcd.BUILT['3.6']}"
    assert etcd.present() == ["3.6"]


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def a_go(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str, script: str) -> None:
    """A `go` on PATH that says it is that version and runs a script for the rest."""
    program(folder, "go", f'[ "$1" = version ] && echo "go version {version} linux/amd64" && exit\n{script}')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_a_go_that_fits_it_is_told_why_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCD_AGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.main() == 0
    assert capsys.readouterr().out.count("there is no go on PATH") == 3
    a_go(tmp_path / "old", monkeypatch, "go1.19.8", "exit 1")
    assert tools.main() == 0
    out = capsys.readouterr().out
    assert "skipped versitygw: it needs Go 1.25 or newer, there is go version go1.19.8" in out
    assert "skipped etcd 3.6" in out
    assert [path.name for path in (tmp_path / "cache/tools").iterdir()] == [".lock"]


BUILDS = """
for last do :; done
case "$1" in
  install) echo bytes > "$GOBIN/versitygw" ;;
  build) while [ "$1" != -o ]; do shift; done; for name in server etcdctl etcdutl; do
    printf '#!/bin/sh\\necho "%s version: %s"\\n' "$name" "$SAYS" > "$2/$name"; chmod 755 "$2/$name"; done ;;
esac
"""


def test_a_build_is_kept_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ETCD_AGENT_CACHE", str(cache))
    monkeypatch.setattr(etcd, "BUILT", {"3.6": "3.6.16"})
    (cache / "tools/unfinished-of-a-killed-one").mkdir(parents=True)
    a_go(tmp_path / "go", monkeypatch, "go1.26.0", BUILDS)
    monkeypatch.setenv("SAYS", "3.6.4")
    assert tools.main() == 1
    assert "is not version 3.6.16" in capsys.readouterr().err
    assert etcd.present() == []
    monkeypatch.setenv("SAYS", etcd.BUILT["3.6"])
    assert tools.main() == 0
    assert sorted(path.name for path in etcd.tools_folder("3.6").iterdir()) == ["etcd", "etcdctl", "etcdutl"]
    left = {path.name for path in (cache / "tools").iterdir()}
    assert left == {".lock", "versitygw", f"versitygw-{tools.VERSITYGW}", "etcd-3.6.16"}
    assert not (cache / "go").exists()


def test_what_a_build_needs_stays_below_the_cache_and_the_users_settings_hold() -> None:
    kept = Path("/cache/go")
    made = go.environment({"HOME": "/home/a", "GOPROXY": "https://proxy.example", "GOTOOLCHAIN": "auto"}, kept)
    assert made["GOPROXY"] == "https://proxy.example"
    assert made["GOENV"] == "/home/a/.config/go/env"
    assert made["GOTOOLCHAIN"] == "local"
    for name in ("GOPATH", "GOMODCACHE", "GOCACHE", "XDG_CONFIG_HOME"):
        assert Path(made[name]).is_relative_to(kept)


def test_the_workers_of_a_test_run_have_ports_of_their_own() -> None:
    ranges = [
        free_ports.own_range({"PYTEST_XDIST_WORKER": f"gw{number}", "PYTEST_XDIST_WORKER_COUNT": "3"})
        for number in range(3)
    ]
    ports = [port for lowest, highest in ranges for port in range(lowest, highest + 1)]
    assert len(ports) == len(set(ports)) > 10_000
    assert set(ports) <= set(range(free_ports.LOWEST, free_ports.HIGHEST + 1))
    assert free_ports.own_range({}) == (free_ports.LOWEST, free_ports.HIGHEST)
