"""Fingerprints of what a restore also needs: by platform, digests alone, and nothing of the material anywhere."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import bootstrap
from agent.node import load_node
from agent.platforms.fingerprints import TOKEN_ROUNDS, TOKEN_SALT
from tests.sandbox import platform_trees
from tests.sandbox.platform_trees import Tree

ENCRYPTION = """apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources:
      - secrets
    providers:
      - aescbc:
          keys:
            - name: key2
              secret: U0VDUkVU
            - name: key1
              secret: T1RIRVI=
      - identity: {}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    return Tree(tmp_path)


def taken() -> dict[str, str]:
    return bootstrap.fingerprints(load_node())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("manifests", ["/etc/kubernetes/manifests", "/srv/pods"])
def test_kubeadm(tree: Tree, manifests: str) -> None:
    platform_trees.kubeadm(tree, manifests=manifests)
    pki = tree.path("/etc/kubernetes/pki")
    expected = {
        "cluster_ca": digest((pki / "ca.crt").read_bytes()), "etcd_ca": digest((pki / "etcd/ca.crt").read_bytes()),
        "service_account_key": digest((pki / "sa.pub").read_bytes()),
    }  # fmt: skip
    assert taken() == expected
    tree.write("/etc/kubernetes/enc/enc.yaml", ENCRYPTION)
    assert taken() == expected | {"encryption_key_names": digest(b"aescbc/key2\naescbc/key1")}


@pytest.mark.parametrize("build, name", [(platform_trees.rke2, "rke2"), (platform_trees.k3s, "k3s")])
def test_rke2_and_k3s(tree: Tree, build: Callable[[Tree], None], name: str) -> None:
    build(tree)
    server = tree.path(f"/var/lib/rancher/{name}/server")
    token = hashlib.pbkdf2_hmac("sha256", b"K10abc::server:SECRET", TOKEN_SALT, TOKEN_ROUNDS).hex()
    assert taken() == {
        "cluster_ca": digest((server / "tls/server-ca.crt").read_bytes()),
        "etcd_ca": digest((server / "tls/etcd/server-ca.crt").read_bytes()),
        "service_account_key": digest((server / "tls/service.key").read_bytes()),
        "token": token, "encryption_key_names": digest(b"aescbc/aescbckey"),
    }  # fmt: skip


def test_the_ca_that_is_configured_counts(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.crt"
    own.write_bytes(b"another CA")
    monkeypatch.setenv("ETCD_AGENT_ETCD__CA_CERT", str(own))
    assert taken() == {"etcd_ca": digest(b"another CA")}
    platform_trees.kubeadm(tree)
    assert taken()["etcd_ca"] == digest(b"another CA")


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"[]", b"{", b'{"resources": 1}', b"a: [\n", b"", b'{"resources":[1,{"providers":[2]}]}', b"[" * 9_000],
)
def test_an_odd_encryption_configuration_has_no_fingerprint(tree: Tree, content: bytes) -> None:
    platform_trees.kubeadm(tree)
    tree.write("/etc/kubernetes/enc/enc.yaml", "")
    tree.path("/etc/kubernetes/enc/enc.yaml").write_bytes(content)
    assert "encryption_key_names" not in taken()


def test_what_is_gone_has_none(tree: Tree) -> None:
    platform_trees.kubeadm(tree)
    tree.path("/etc/kubernetes/pki/ca.crt").unlink()
    tree.path("/etc/kubernetes/pki/sa.pub").unlink()
    assert taken().keys() == {"etcd_ca"}


def test_nothing_is_taken_where_the_platform_is_not_clear(tree: Tree) -> None:
    assert taken() == {}
    platform_trees.kubeadm(tree)
    platform_trees.rke2(tree)
    assert taken() == {}
