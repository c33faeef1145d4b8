"""The four platforms found through the real commands, in trees as installers leave them, with no file of ours."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.sandbox import plain_trees, platform_trees
from tests.sandbox.platform_pki import SERVER
from tests.sandbox.platform_trees import Tree

Build = Callable[[Tree], None]
OWN_KEYS = (
    "etcd.endpoints", "etcd.ca_cert", "etcd.cert", "etcd.key", "etcd.data_dir", "kubernetes.kubeconfig",
)  # fmt: skip
NO_TLS = ("", "", "")
RANCHER_TLS = "{0}/server/tls/etcd/server-ca.crt", "{0}/server/tls/etcd/client.crt", "{0}/server/tls/etcd/client.key"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "no-tools-here"))
    monkeypatch.setenv("COLUMNS", "250")
    return Tree(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, dict[str, Any]]:
    assert main([*(word for flag in flags for word in ("--set", flag)), "config", "show", "--json"]) == 0
    told = capsys.readouterr()
    assert "SECRET" not in told.out + told.err
    values: dict[str, dict[str, Any]] = json.loads(told.out)["values"]
    return values


def status(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main([*(word for flag in flags for word in ("--set", flag)), "status", "--json"]) == 1
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "SECRET" not in told.out + told.err
    document: dict[str, Any] = json.loads(told.out)
    return document


def of_platform(document: dict[str, Any]) -> list[str]:
    return [f"{one['message']} / {one['hint']}" for one in document["problems"] if one["part"] == "platform"]


def expected(tree: Tree, endpoint: str, tls: tuple[str, str, str], data_dir: str, kubeconfig: str) -> dict[str, Any]:
    ca_cert, cert, key = (str(tree.path(name)) if name else "" for name in tls)
    values = (
        [endpoint],
        ca_cert,
        cert,
        key,
        str(tree.path(data_dir)),
        str(tree.path(kubeconfig)) if kubeconfig else "",
    )
    return dict(zip(OWN_KEYS, values, strict=True))


def rancher(name: str, data_dir: str = "") -> tuple[str, tuple[str, str, str], str, str]:
    folder = data_dir or f"/var/lib/rancher/{name}"
    ca_cert, cert, key = (path.format(folder) for path in RANCHER_TLS)
    data = f"{folder}/server/db/etcd"
    return "https://127.0.0.1:2379", (ca_cert, cert, key), data, f"/etc/rancher/{name}/{name}.yaml"


def kubeadm_values(pki: str = "/etc/kubernetes/pki", data_dir: str = "/var/lib/etcd") -> tuple[Any, ...]:
    tls = (f"{pki}/etcd/ca.crt", f"{pki}/etcd/healthcheck-client.crt", f"{pki}/etcd/healthcheck-client.key")
    return "https://127.0.0.1:2379", tls, data_dir, "/etc/kubernetes/admin.conf"


UPSTREAM_TLS = ("/etc/etcd/pki/ca.crt", "/etc/etcd/pki/client.crt", "/etc/etcd/pki/client.key")
TREES: list[Any] = [
    *(
        pytest.param(
            lambda tree, v=v: platform_trees.kubeadm(tree, version=v), "kubeadm", kubeadm_values(), id=f"kubeadm-{v}"
        )
        for v in platform_trees.KUBEADM
    ),
    pytest.param(
        lambda tree: platform_trees.kubeadm(tree, manifests="/srv/pods", data_dir="/data/etcd", pki="/srv/pki"),
        "kubeadm", kubeadm_values("/srv/pki", "/data/etcd"), id="kubeadm-moved",
    ),
    pytest.param(platform_trees.rke2, "rke2", rancher("rke2"), id="rke2"),
    pytest.param(
        lambda tree: platform_trees.rke2(
            tree, data_dir="/data/rke2", config='token: SECRET\ntls-san: [a, b]\ndata-dir: "/data/rke2"  # moved\n'
        ),
        "rke2", rancher("rke2", "/data/rke2"), id="rke2-moved",
    ),
    pytest.param(
        lambda tree: platform_trees.rke2(
            tree, data_dir="/data/new", config="data-dir: /data/old\n",
            drop_ins=["data-dir: /data/older\n", "node-name: x\ndata-dir: /data/new\n"],
        ),
        "rke2", rancher("rke2", "/data/new"), id="rke2-moved-by-drop-in",
    ),
    pytest.param(platform_trees.k3s, "k3s", rancher("k3s"), id="k3s"),
    pytest.param(
        lambda tree: platform_trees.k3s(tree, data_dir="/data/k3s", config="cluster-init: true\ndata-dir: /data/k3s\n"),
        "k3s", rancher("k3s", "/data/k3s"), id="k3s-moved",
    ),
    pytest.param(
        lambda tree: platform_trees.k3s(
            tree, data_dir="/data/k3s", config="data-dir: /data/other\n", words=("--cluster-init", "-d", "/data/k3s")
        ),
        "k3s", rancher("k3s", "/data/k3s"), id="k3s-moved-by-flag",
    ),
    pytest.param(
        plain_trees.debian, "plain", ("http://localhost:2379", NO_TLS, "/var/lib/etcd/default", ""), id="debian"
    ),
    pytest.param(
        lambda tree: plain_trees.debian(
            tree, defaults='ETCD_DATA_DIR=/srv/etcd\nDAEMON_ARGS="--listen-client-urls http://0.0.0.0:4001 --name x"\n'
        ),
        "plain", ("http://127.0.0.1:4001", NO_TLS, "/srv/etcd", ""), id="debian-changed",
    ),
    pytest.param(
        plain_trees.rhel, "plain", ("http://localhost:2379", NO_TLS, "/var/lib/etcd/default.etcd", ""), id="rhel"
    ),
    pytest.param(
        plain_trees.upstream, "plain", ("https://10.0.0.1:2379", UPSTREAM_TLS, "/var/lib/etcd", ""), id="upstream"
    ),
]  # fmt: skip


@pytest.mark.parametrize("build, platform, values", TREES)
def test_each_value_is_right_without_any_configuration(
    tree: Tree, capsys: pytest.CaptureFixture[str], build: Build, platform: str, values: tuple[Any, ...]
) -> None:
    build(tree)
    found = shown(capsys)
    assert {key: found[key]["value"] for key in OWN_KEYS} == expected(tree, *values)
    origins = {found[key]["origin"] for key in OWN_KEYS if found[key]["value"]}
    begin = f"detected ({platform}): {tree.root}/"
    assert all(origin.startswith(begin) or "own default" in origin for origin in origins)
    document = status(capsys)
    part = document["parts"]["platform"]
    assert (part["name"], part["certainty"], part["configured"]) == (platform, "sure", "auto")
    assert of_platform(document) == []
    assert {key: one["value"] for key, one in part["found"].items()} == {
        key: ",".join(value) if isinstance(value, list) else value
        for key, value in expected(tree, *values).items()
        if value
    }
    assert not (tree.root / "etc/etcd-agent").exists()


def test_the_origin_names_file_and_flag(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.kubeadm(tree)
    found = shown(capsys)
    manifest = tree.path("/etc/kubernetes/manifests/etcd.yaml")
    assert found["etcd.data_dir"]["origin"] == f"detected (kubeadm): {manifest} --data-dir"
    assert found["etcd.endpoints"]["origin"] == f"detected (kubeadm): {manifest} --listen-client-urls"
    assert "etcd's own client" in found["etcd.cert"]["origin"]


def test_the_screen_begins_with_the_platform(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.rke2(tree)
    assert main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["FOUND", "VALUE", "WHERE"]
    assert lines[3].split()[:2] == ["etcd.endpoints", "https://127.0.0.1:2379"]
    assert any(line.startswith("platform") and "rke2, sure: " in line for line in lines)


@pytest.mark.parametrize(
    "key, text",
    [
        ("etcd.endpoints", "https://10.9.9.9:4001"),
        ("etcd.ca_cert", "/own/ca.crt"),
        ("etcd.cert", "/own/client.crt"),
        ("etcd.key", "/own/client.key"),
        ("etcd.data_dir", "/own/data"),
        ("kubernetes.kubeconfig", "/own/kubeconfig"),
    ],
)
@pytest.mark.parametrize("build", [platform_trees.kubeadm, platform_trees.rke2, platform_trees.k3s])
def test_each_value_can_be_given_and_the_others_stay(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], build: Build, key: str, text: str
) -> None:
    build(tree)
    before = shown(capsys)
    given = [text] if key == "etcd.endpoints" else text
    table, _, name = key.partition(".")
    tree.write("/etc/etcd-agent/config.toml", f"[{table}]\n{name} = {json.dumps(given)}\n")
    by_file = shown(capsys)
    assert by_file[key] == {"value": given, "origin": f"file {tree.path('/etc/etcd-agent/config.toml')}"}
    assert {**by_file, key: {}} == {**before, key: {}}
    variable = f"ETCD_AGENT_{key.upper().replace('.', '__')}"
    monkeypatch.setenv(variable, f"{text}2")
    assert shown(capsys)[key]["origin"] == f"variable {variable}"
    assert shown(capsys, f"{key}={text}3")[key]["origin"] == f"flag --set {key}"


def both(tree: Tree) -> None:
    platform_trees.kubeadm(tree)
    platform_trees.rke2(tree)


@pytest.mark.parametrize("command", [["status"], ["config", "show"], ["snapshot", "create", "--dry-run"], ["run"]])
def test_two_platforms_are_told_and_nothing_is_guessed(
    tree: Tree, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    both(tree)
    assert main(command) == 2
    printed = capsys.readouterr()
    told = printed.out + printed.err
    assert f"kubeadm: {tree.path('/etc/kubernetes/manifests/etcd.yaml')} starts etcd" in told
    assert f"rke2: {tree.path('/var/lib/rancher/rke2/server/db/etcd/config')}" in told
    assert f"{tree.path('/etc/etcd-agent/config.toml')}, above its first [table]" in told
    assert 'platform = "kubeadm" or platform = "rke2"' in told


def test_the_line_that_is_told_chooses(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    both(tree)
    tree.write("/etc/etcd-agent/config.toml", 'platform = "rke2"\n')
    assert shown(capsys)["etcd.data_dir"]["value"] == str(tree.path("/var/lib/rancher/rke2/server/db/etcd"))
    assert status(capsys)["parts"]["platform"]["name"] == "rke2"
    assert status(capsys, "platform=kubeadm")["parts"]["platform"]["name"] == "kubeadm"


def test_who_gave_every_value_need_not_choose(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    both(tree)
    flags = [
        "etcd.endpoints=http://127.0.0.1:1", "etcd.ca_cert=", "etcd.cert=", "etcd.key=", "etcd.data_dir=/data",
    ]  # fmt: skip
    document = status(capsys, *flags)
    assert document["parts"]["platform"]["name"] is None
    assert "2 platforms" in of_platform(document)[0]


def test_what_only_queues_a_request_does_not_fail_by_two_platforms(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    both(tree)
    assert main(["submit", "snapshot", "--no-wait"]) == 0


def test_kubesprays_unit_gives_the_members_own_pair_to_the_client(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_trees.kubespray(tree)
    found = shown(capsys)
    ssl = tree.path("/etc/ssl/etcd/ssl")
    assert {key: found[key]["value"] for key in OWN_KEYS[:5]} == {
        "etcd.endpoints": ["https://127.0.0.1:2379"], "etcd.ca_cert": str(ssl / "ca.pem"),
        "etcd.cert": str(ssl / "member-node1.pem"), "etcd.key": str(ssl / "member-node1-key.pem"),
        "etcd.data_dir": str(tree.path("/var/lib/etcd")),
    }  # fmt: skip
    assert of_platform(status(capsys)) == []


def test_what_only_queues_a_request_does_not_look(tree: Tree) -> None:
    program = (
        "import sys; from agent.cli import main; code = main(['submit', 'snapshot', '--no-wait']); "
        "print(code, [name for name in sys.modules if name.startswith('agent.platforms')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "0 []"


def test_leftovers_of_uninstalled_platforms_are_no_candidates(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.leftovers(tree)
    plain_trees.debian(tree)
    assert status(capsys)["parts"]["platform"]["name"] == "plain"


def test_a_package_that_is_not_enabled_is_no_second_candidate(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    plain_trees.debian(tree, enabled=False)
    assert status(capsys)["parts"]["platform"]["certainty"] == "likely"
    platform_trees.kubeadm(tree)
    assert status(capsys)["parts"]["platform"]["name"] == "kubeadm"


def test_nothing_found_leaves_the_defaults_and_says_where_it_looked(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    platform_trees.leftovers(tree)
    found = shown(capsys)
    assert {key: found[key]["origin"] for key in OWN_KEYS} == dict.fromkeys(OWN_KEYS, "default")
    assert found["etcd.endpoints"]["value"] == ["http://127.0.0.1:2379"]
    document = status(capsys)
    assert document["parts"]["platform"]["name"] is None
    (problem,) = of_platform(document)
    assert "no etcd was found on this node" in problem
    for name in ("/etc/kubernetes/manifests/etcd.yaml", "/var/lib/rancher/k3s/server/db", "/etc/default/etcd"):
        assert name in problem
    assert str(tree.path("/etc/kubernetes/manifests/etcd.yaml")) in document["parts"]["platform"]["looked_at"]


def _external_etcd(tree: Tree) -> None:
    platform_trees.kubeadm(tree)
    tree.path("/etc/kubernetes/manifests/etcd.yaml").unlink()


def _masked(tree: Tree) -> None:
    plain_trees.debian(tree)
    tree.link("/etc/systemd/system/etcd.service", "/dev/null")


@pytest.mark.parametrize(
    "build, platform, text",
    [
        (lambda tree: platform_trees.k3s(tree, etcd=False), "k3s", "SQLite"),
        (lambda tree: platform_trees.k3s(tree, config="datastore-endpoint: mysql://u:SECRET@h\n"), "k3s", "external"),
        (lambda tree: platform_trees.k3s(tree, words=("--datastore-endpoint=mysql://SECRET",)), "k3s", "external"),
        (lambda tree: platform_trees.rke2(tree, config="disable-etcd: true\n"), "rke2", "switched off"),
        (_external_etcd, "kubeadm", "uses an external etcd"),
        (_masked, "plain", "is masked"),
    ],
)  # fmt: skip
def test_a_platform_without_an_etcd_of_its_own_is_told(
    tree: Tree, capsys: pytest.CaptureFixture[str], build: Build, platform: str, text: str
) -> None:
    build(tree)
    part = status(capsys)["parts"]["platform"]
    assert part["name"] is None
    assert text in part["others"][platform]
    document = status(capsys, f"platform={platform}")
    assert f'platform = "{platform}" is configured, and is not here' in of_platform(document)[0]


def test_the_second_choice_of_kubeadm_is_the_api_servers_client(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.kubeadm(tree)
    tree.path("/etc/kubernetes/pki/etcd/healthcheck-client.key").unlink()
    found = shown(capsys)
    assert found["etcd.cert"]["value"] == str(tree.path("/etc/kubernetes/pki/apiserver-etcd-client.crt"))
    assert "the API server's client" in found["etcd.cert"]["origin"]
    tree.path("/etc/kubernetes/pki/apiserver-etcd-client.crt").unlink()
    assert shown(capsys)["etcd.cert"]["value"] == str(tree.path("/etc/kubernetes/pki/etcd/server.crt"))
    tree.path("/etc/kubernetes/pki/etcd/server.crt").unlink()
    assert shown(capsys)["etcd.cert"]["value"] == ""
    assert "kubeadm init phase certs etcd-healthcheck-client" in of_platform(status(capsys))[0]


def test_the_servers_certificate_serves_a_client_only_where_it_says_so(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_trees.upstream(tree, client=False)
    found = shown(capsys)
    assert found["etcd.cert"]["value"] == str(tree.path("/etc/etcd/pki/server.crt"))
    assert "etcd's server, usable by a client" in found["etcd.cert"]["origin"]


def test_a_certificate_of_servers_alone_is_a_problem_with_its_remedy(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_trees.upstream(tree, client=False, server_usages=[SERVER])
    assert shown(capsys)["etcd.cert"]["value"] == ""
    (problem,) = of_platform(status(capsys))
    assert "has no clientAuth / make a client certificate by the same CA" in problem


def test_k3s_says_what_to_install(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    platform_trees.k3s(tree)
    (hint,) = [one["hint"] for one in status(capsys)["problems"] if one["part"] == "member"]
    assert "k3s ships none: install etcdctl and etcdutl" in hint


@pytest.mark.parametrize("key", ["etcd.ca_cert", "etcd.cert", "etcd.key"])
def test_a_certificate_that_is_not_there_is_told(tree: Tree, capsys: pytest.CaptureFixture[str], key: str) -> None:
    platform_trees.kubeadm(tree)
    assert of_platform(status(capsys, f"{key}=/no/such/file")) == [
        f"{key}: /no/such/file does not exist / is it the right file? else set {key}"
    ]
