"""Odd files where the platforms look: a reason in `status`, never a traceback and never a wrong value."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli import main
from agent.platforms import detection
from tests.sandbox import plain_trees, platform_trees
from tests.sandbox.platform_trees import Tree

MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
RKE2_CONFIG = "/etc/rancher/rke2/config.yaml"
RKE2_ETCD = "/var/lib/rancher/rke2/server/db/etcd/config"
UNIT = "/usr/lib/systemd/system/etcd.service"
NOBODY = 65534
Build = Callable[[Tree], None]
Spoil = Callable[[Path], None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "no-tools-here"))
    return Tree(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["status", "--json"]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "SECRET" not in printed.out + printed.err
    document: dict[str, Any] = json.loads(printed.out)
    document["told"] = " ".join(one["message"] for one in document["problems"] if one["part"] == "platform")
    return document


def content(text: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink()
        path.write_bytes(text)

    return spoil


def replaced(text: str, by: str) -> Spoil:
    def spoil(path: Path) -> None:
        assert text in path.read_text()
        path.write_text(path.read_text().replace(text, by))

    return spoil


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


POD_IS_ODD = ["kubernetes.kubeconfig"]  # which is not in the manifest
KUBEADM, RKE2, DEBIAN = platform_trees.kubeadm, platform_trees.rke2, plain_trees.debian


@pytest.mark.parametrize(
    "build, name, spoil, found, text",
    [
        (KUBEADM, MANIFEST, content(b"\x00\xff SECRET"), [], "is not text"),
        (KUBEADM, MANIFEST, content(b"SECRET" * 20_000), [], "more than 65536 bytes"),
        (KUBEADM, MANIFEST, link_to_itself, [], "Too many levels of symbolic links"),
        (KUBEADM, MANIFEST, folder, [], "is not a regular file"),
        (KUBEADM, MANIFEST, pipe, [], "is not a regular file"),
        (KUBEADM, MANIFEST, content(b""), POD_IS_ODD, "0 of its containers run etcd"),
        (KUBEADM, MANIFEST, content(b"SECRET: [\n"), POD_IS_ODD, "not understood: line 1"),
        (KUBEADM, MANIFEST, replaced("    - etcd\n", "    - /bin/sh\n"), POD_IS_ODD, "run etcd, not one"),
        (KUBEADM, MANIFEST, replaced("--listen-client-urls=", "--listen-x="), None, "no usable --listen-client-urls"),
        (KUBEADM, MANIFEST, replaced("--data-dir=/var/lib/etcd", "--data-dir=/x"), None, "no folder of the node"),
        (KUBEADM, MANIFEST, replaced("--trusted-ca-file=", "--x="), None, "no --trusted-ca-file"),
        (KUBEADM, MANIFEST, replaced("    - --name=node-1\n", "    - --config-file=/x\n"), None, "file of its own"),
        (KUBEADM, "/etc/kubernetes/pki/etcd/healthcheck-client.crt", content(b"SECRET"), None, ""),
        (KUBEADM, "/var/lib/kubelet/config.yaml", content(b"{{{"), None, ""),
        (RKE2, RKE2_CONFIG, content(b"data-dir: SECRET: x\n"), [], "config.yaml is not understood: line 1"),
        (RKE2, RKE2_CONFIG, content(b"data-dir: &a SECRET\n"), [], "has data-dir in a form that is not read"),
        (RKE2, RKE2_CONFIG, content(b"tls-san: [a,\n  SECRET]\n"), None, ""),
        (RKE2, RKE2_ETCD, content(b"data-dir: &x SECRET\n"), None, "no usable listen-client-urls"),
        (RKE2, RKE2_ETCD, content(b"\tSECRET"), None, "is not understood: line 1"),
        (RKE2, RKE2_ETCD, content(b""), [], ""),
        (DEBIAN, UNIT, content(b"[Service]\nExecStart=/usr/bin/docker run SECRET\n"), [], "starts docker"),
        (DEBIAN, UNIT, content(b"[Service]\nExecStart=/usr/bin/etcd 'SECRET\n"), [], "quotes that do not close"),
        (DEBIAN, UNIT, content(b"[Service]\nExecStart=/usr/bin/etcd --config-file=/no/such\n"), [], "does not exist"),
        (DEBIAN, UNIT, replaced("/var/lib/etcd/default", "/var/lib/%m"), None, "not a plain path"),
        (DEBIAN, UNIT, content(b"\xff"), [], "is not text"),
        (DEBIAN, "/etc/default/etcd", content(b"ETCD_LISTEN_CLIENT_URLS=unix://x\n"), None, "URL that can be used"),
        (DEBIAN, "/etc/default/etcd", content(b"ETCD_LISTEN_CLIENT_URLS=https://h:1\n"), None, "auto-tls"),
        (
            DEBIAN, "/etc/default/etcd",
            content(b"ETCD_LISTEN_CLIENT_URLS=https://h:1\nETCD_CERT_FILE=/a.crt\nETCD_KEY_FILE=/a.key\n"),
            None, "its CA is not known",
        ),
    ],
)  # fmt: skip
def test_an_odd_file_is_told(
    tree: Tree, capsys: pytest.CaptureFixture[str], build: Build, name: str, spoil: Spoil, found: list[str] | None,
    text: str,
) -> None:  # fmt: skip
    build(tree)
    if not tree.path(name).exists():
        tree.write(name, "\n")
    spoil(tree.path(name))
    document = told(capsys)
    assert text in document["told"]
    if found is not None:
        assert list(document["parts"]["platform"]["found"]) == found


def test_a_value_that_fits_no_key_is_refused_and_told(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.kubeadm(tree, listen="http://bad host!:2379")
    assert "etcd.endpoints: Expected `str` matching regex" in told(capsys)["told"]
    assert main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["values"]["etcd.endpoints"]["origin"] == "default"


@pytest.fixture
def open_tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    """A tree that every user may enter; while it is used this process has no special rights."""
    # Not below TMPDIR, which may be this user's alone: the tree is entered by another one.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("ETCD_AGENT_ROOT", name)
        monkeypatch.setenv("PATH", "/no-tools-here")
        yield Tree(Path(name))
        if os.getuid() == 0:
            os.seteuid(0)


def without_rights() -> None:
    if os.getuid() == 0:
        os.seteuid(NOBODY)


@pytest.mark.parametrize(
    "build, name, reason",
    [
        (KUBEADM, MANIFEST, "permission denied"),
        (KUBEADM, "/etc/kubernetes/pki/etcd/healthcheck-client.key", ""),
        (KUBEADM, "/etc/kubernetes/pki/etcd", "permission denied"),
        (KUBEADM, "/etc/kubernetes", "permission denied"),
        (RKE2, "/var/lib/rancher/rke2/server", "permission denied"),
        (DEBIAN, "/etc/systemd/system", "permission denied"),
        (DEBIAN, "/etc/default/etcd", "permission denied"),
    ],
)
def test_what_this_user_may_not_read_asks_for_sudo(
    open_tree: Tree, capsys: pytest.CaptureFixture[str], build: Build, name: str, reason: str
) -> None:
    build(open_tree)
    open_tree.path(name).chmod(0)
    try:
        without_rights()
        document = told(capsys)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        open_tree.path(name).chmod(0o700)
    assert reason in document["told"]
    hints = [one["hint"] for one in document["problems"] if "permission" in one["message"]]
    assert not reason or any("sudo" in hint for hint in hints)


ODD = st.sampled_from(
    [
        MANIFEST, "/var/lib/kubelet/config.yaml", RKE2_CONFIG, RKE2_ETCD, UNIT, "/etc/default/etcd",
        "/etc/etcd/etcd.conf.yml",
    ]
)  # fmt: skip


@given(st.dictionaries(ODD, st.binary(max_size=60) | st.text(max_size=60).map(str.encode), max_size=4))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_gives_a_finding(tmp_path: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        tree = Tree(Path(name))
        for path, text in files.items():
            tree.write(path, "")
            tree.path(path).write_bytes(text)
        found = detection.look(tree.root, "auto")
        assert {finding.platform for finding in found.findings} == {"kubeadm", "rke2", "k3s", "plain"}
        assert all(finding.reason for finding in found.findings)
