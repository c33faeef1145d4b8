"""Setting up from nothing: the machine's own mirror with another suite, and a message for what is missing."""

import sys
from pathlib import Path

import pytest

from tests.setup import debian, etcd, venv

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
