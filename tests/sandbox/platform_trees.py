"""File trees of nodes as the installers of the four platforms leave them, below a root folder of their own."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.platform_pki import CLIENT, SERVER, PlatformAuthority

ADDRESS = "10.0.0.1"
BOTH = [SERVER, CLIENT]
NEW_FLAGS = {"feature-gates": "InitialCorruptCheck=true", "watch-progress-notify-interval": "5s"}
OLD_FLAGS = {
    "experimental-initial-corrupt-check": "true", "experimental-watch-progress-notify-interval": "5s",
}  # fmt: skip
PROBES = {
    "new": ("/livez", "/readyz", "probe-port"),
    "old": ("/health?exclude=NOSPACE&serializable=true", "/health?serializable=false", "2381"),
}
# What changed between the versions of kubeadm: flags that left the experiment, and probes.
KUBEADM = {
    "1.29": (OLD_FLAGS, "old"), "1.31": (OLD_FLAGS, "new"), "1.33": (OLD_FLAGS, "new"), "1.34": (NEW_FLAGS, "new"),
}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A root folder that is filled file by file."""

    root: Path

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def folder(self, name: str) -> None:
        self.path(name).mkdir(parents=True, exist_ok=True)

    def link(self, name: str, target: str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def enable(self, unit: str, folder: str = "/usr/lib/systemd/system") -> None:
        """What `systemctl enable` leaves."""
        self.link(f"/etc/systemd/system/multi-user.target.wants/{unit}", f"{folder}/{unit}")


def kubeadm(
    tree: Tree, *, version: str = "1.33", pki: str = "/etc/kubernetes/pki", data_dir: str = "/var/lib/etcd",
    manifests: str = "/etc/kubernetes/manifests", listen: str = "", flags: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """A stacked control plane of kubeadm."""
    authority = PlatformAuthority(tree.path(f"{pki}/etcd/ca.crt"))
    for folder, name, usages in (
        ("etcd", "server", BOTH), ("etcd", "peer", BOTH), ("etcd", "healthcheck-client", [CLIENT]),
        (".", "apiserver-etcd-client", [CLIENT]),
    ):  # fmt: skip
        authority.issue(tree.path(f"{pki}/{folder}/{name}.crt"), tree.path(f"{pki}/{folder}/{name}.key"), usages)
    PlatformAuthority(tree.path(f"{pki}/ca.crt"), "kubernetes")
    tree.write(f"{pki}/sa.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    tree.write("/etc/kubernetes/admin.conf", "apiVersion: v1\nkind: Config\nusers: [{user: {token: SECRET}}]\n")
    tree.write("/var/lib/kubelet/config.yaml", _kubelet_config(manifests), 0o644)
    tree.write(f"{manifests}/kube-apiserver.yaml", _api_server(pki))
    tree.folder(f"{data_dir}/member/snap")
    tree.write(f"{manifests}/etcd.yaml", _etcd_manifest(version, pki, data_dir, listen, flags or {}))


def _kubelet_config(manifests: str) -> str:
    return (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nauthentication:\n  anonymous:\n    enabled: false\n"
        "cgroupDriver: systemd\nclusterDNS:\n- 10.96.0.10\nkind: KubeletConfiguration\nlogging:\n"
        "  flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n  verbosity: 0\n"
        f"memorySwap: {{}}\nstaticPodPath: {manifests}\nsyncFrequency: 0s\n"
    )  # fmt: skip


def _api_server(pki: str) -> str:
    return (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-apiserver\nspec:\n  containers:\n  - command:\n"
        "    - kube-apiserver\n    - --advertise-address=10.0.0.1\n"
        "    - --encryption-provider-config=/etc/kubernetes/enc/enc.yaml\n"
        f"    - --etcd-cafile={pki}/etcd/ca.crt\n    - --etcd-servers=https://127.0.0.1:2379\n"
        "    image: registry.k8s.io/kube-apiserver:v1.33.1\n    name: kube-apiserver\n    volumeMounts:\n"
        "    - mountPath: /etc/kubernetes/enc\n      name: enc\n      readOnly: true\n  volumes:\n  - hostPath:\n"
        "      path: /etc/kubernetes/enc\n      type: DirectoryOrCreate\n    name: enc\nstatus: {}\n"
    )


def _etcd_manifest(version: str, pki: str, data_dir: str, listen: str, changed: Mapping[str, str]) -> str:
    own_flags, probes = KUBEADM[version]
    live, ready, port = PROBES[probes]
    flags = {
        "advertise-client-urls": f"https://{ADDRESS}:2379", "cert-file": f"{pki}/etcd/server.crt",
        "client-cert-auth": "true", "data-dir": data_dir, "initial-advertise-peer-urls": f"https://{ADDRESS}:2380",
        "initial-cluster": f"node-1=https://{ADDRESS}:2380", "key-file": f"{pki}/etcd/server.key",
        "listen-client-urls": listen or f"https://127.0.0.1:2379,https://{ADDRESS}:2379",
        "listen-metrics-urls": "http://127.0.0.1:2381", "listen-peer-urls": f"https://{ADDRESS}:2380",
        "name": "node-1", "peer-cert-file": f"{pki}/etcd/peer.crt", "peer-client-cert-auth": "true",
        "peer-key-file": f"{pki}/etcd/peer.key", "peer-trusted-ca-file": f"{pki}/etcd/ca.crt",
        "snapshot-count": "10000", "trusted-ca-file": f"{pki}/etcd/ca.crt", **own_flags, **changed,
    }  # fmt: skip
    words = "".join(f"    - --{name}={value}\n" for name, value in sorted(flags.items()))
    return (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n"
        f"    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://{ADDRESS}:2379\n  creationTimestamp: null\n"
        "  labels:\n    component: etcd\n    tier: control-plane\n  name: etcd\n  namespace: kube-system\nspec:\n"
        f"  containers:\n  - command:\n    - etcd\n{words}    image: registry.k8s.io/etcd:3.5.21-0\n"
        "    imagePullPolicy: IfNotPresent\n    livenessProbe:\n      failureThreshold: 8\n      httpGet:\n"
        f"        host: 127.0.0.1\n        path: {live}\n        port: {port}\n        scheme: HTTP\n"
        "      initialDelaySeconds: 10\n      periodSeconds: 10\n      timeoutSeconds: 15\n    name: etcd\n"
        "    readinessProbe:\n      failureThreshold: 3\n      httpGet:\n        host: 127.0.0.1\n"
        f"        path: {ready}\n        port: {port}\n        scheme: HTTP\n    resources:\n      requests:\n"
        "        cpu: 100m\n        memory: 100Mi\n    volumeMounts:\n"
        f"    - mountPath: {data_dir}\n      name: etcd-data\n    - mountPath: {pki}/etcd\n      name: etcd-certs\n"
        "  hostNetwork: true\n  priority: 2000001000\n  priorityClassName: system-node-critical\n"
        "  securityContext:\n    seccompProfile:\n      type: RuntimeDefault\n  volumes:\n"
        f"  - hostPath:\n      path: {pki}/etcd\n      type: DirectoryOrCreate\n    name: etcd-certs\n"
        f"  - hostPath:\n      path: {data_dir}\n      type: DirectoryOrCreate\n    name: etcd-data\nstatus: {{}}\n"
    )


def rke2(
    tree: Tree, *, data_dir: str = "/var/lib/rancher/rke2", config: str = "", drop_ins: Sequence[str] = ()
) -> None:
    """A server of RKE2."""
    _rancher(tree, "rke2", data_dir)
    own = f"{data_dir}/server"
    tree.write(
        f"{data_dir}/agent/pod-manifests/etcd.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n"
        "    etcd.k3s.io/initial: '{\"initial-advertise-peer-urls\":\"https://10.0.0.1:2380\"}'\n"
        "  creationTimestamp: null\n  labels:\n    component: etcd\n    tier: control-plane\n  name: etcd\n"
        "  namespace: kube-system\n  uid: 76238339541a86d5625c6933933e00a9\nspec:\n  containers:\n  - args:\n"
        f"    - --config-file={own}/db/etcd/config\n    command:\n    - etcd\n    env:\n    - name: FILE_HASH\n"
        "      value: 117f2228f03cbb7f\n    image: index.docker.io/rancher/hardened-etcd:v3.5.21-k3s1\n"
        "    name: etcd\n  hostNetwork: true\nstatus: {}\n",
    )  # fmt: skip
    tree.write(
        "/usr/local/lib/systemd/system/rke2-server.service",
        "[Unit]\nDescription=Rancher Kubernetes Engine v2 (server)\n\n[Install]\nWantedBy=multi-user.target\n\n"
        "[Service]\nType=notify\nEnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/sysconfig/%N\n"
        "EnvironmentFile=-/usr/local/lib/systemd/system/%N.env\nKillMode=process\n"
        "ExecStart=/usr/local/bin/rke2 server\n"
        "ExecStopPost=-/bin/sh -c \"systemd-cgls /system.slice/%n | grep -Eo '[0-9]+ (containerd|kubelet)'\"\n",
        0o644,
    )  # fmt: skip
    tree.write("/usr/local/lib/systemd/system/rke2-server.env", "HOME=/root\n", 0o644)
    _config(tree, "rke2", config, drop_ins)


def k3s(
    tree: Tree, *, data_dir: str = "/var/lib/rancher/k3s", config: str = "", drop_ins: Sequence[str] = (),
    words: Sequence[str] = ("--cluster-init",), etcd: bool = True,
) -> None:  # fmt: skip
    """A server of k3s, with embedded etcd or with SQLite."""
    if etcd:
        _rancher(tree, "k3s", data_dir)
    else:
        tree.write(f"{data_dir}/server/db/state.db", "SQLite format 3\0")
        tree.folder(f"{data_dir}/server/tls/etcd")
    arguments = "".join(f"\t'{word}' \\\n" for word in words)
    tree.write(
        "/etc/systemd/system/k3s.service",
        "[Unit]\nDescription=Lightweight Kubernetes\n\n[Install]\nWantedBy=multi-user.target\n\n[Service]\n"
        "Type=notify\nEnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/sysconfig/%N\n"
        "EnvironmentFile=-/etc/systemd/system/k3s.service.env\nKillMode=process\n"
        f"ExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/local/bin/k3s \\\n    server \\\n{arguments}\n",
        0o644,
    )
    tree.write("/etc/systemd/system/k3s.service.env", "K3S_TOKEN=SECRET\n")
    _config(tree, "k3s", config, drop_ins)


def _config(tree: Tree, name: str, config: str, drop_ins: Sequence[str]) -> None:
    tree.write(f"/etc/rancher/{name}/{name}.yaml", "apiVersion: v1\nusers:\n- user:\n    client-key-data: SECRET\n")
    if config:
        tree.write(f"/etc/rancher/{name}/config.yaml", config)
    for number, text in enumerate(drop_ins):
        tree.write(f"/etc/rancher/{name}/config.yaml.d/{number:02}.yaml", text)


def _rancher(tree: Tree, name: str, data_dir: str) -> None:
    own = f"{data_dir}/server"
    tls = f"{own}/tls/etcd"
    authority = PlatformAuthority(tree.path(f"{tls}/server-ca.crt"))
    PlatformAuthority(tree.path(f"{tls}/peer-ca.crt"), "etcd-peer-ca")
    PlatformAuthority(tree.path(f"{own}/tls/server-ca.crt"), f"{name}-server-ca")
    for pair, usages in (("client", [CLIENT]), ("server-client", BOTH), ("peer-server-client", BOTH)):
        authority.issue(tree.path(f"{tls}/{pair}.crt"), tree.path(f"{tls}/{pair}.key"), usages)
    tree.write(f"{own}/tls/service.key", "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----\n")
    tree.write(f"{own}/token", "K10abc::server:SECRET\n")
    tree.write(
        f"{own}/cred/encryption-config.json",
        '{"kind":"EncryptionConfiguration","resources":[{"resources":["secrets"],"providers":'
        '[{"aescbc":{"keys":[{"name":"aescbckey","secret":"SECRET"}]}},{"identity":{}}]}]}',
    )
    tree.folder(f"{own}/db/etcd/member/snap")
    tree.write(
        f"{own}/db/etcd/config",
        f"advertise-client-urls: https://{ADDRESS}:2379\nclient-transport-security:\n"
        f"  cert-file: {tls}/server-client.crt\n  client-cert-auth: true\n  key-file: {tls}/server-client.key\n"
        f"  trusted-ca-file: {tls}/server-ca.crt\ndata-dir: {own}/db/etcd\nelection-timeout: 5000\n"
        "experimental-initial-corrupt-check: true\nheartbeat-interval: 500\n"
        f"initial-advertise-peer-urls: https://{ADDRESS}:2380\n"
        f"initial-cluster: node-1-a1b2c3d4=https://{ADDRESS}:2380\ninitial-cluster-state: new\n"
        f"listen-client-http-urls: https://127.0.0.1:2382\n"
        f"listen-client-urls: https://127.0.0.1:2379,https://{ADDRESS}:2379\n"
        f"listen-metrics-urls: http://127.0.0.1:2381\nlisten-peer-urls: https://127.0.0.1:2380,https://{ADDRESS}:2380\n"
        "log-outputs:\n- stderr\nlogger: zap\nname: node-1-a1b2c3d4\npeer-transport-security:\n"
        f"  cert-file: {tls}/peer-server-client.crt\n  client-cert-auth: true\n"
        f"  key-file: {tls}/peer-server-client.key\n  trusted-ca-file: {tls}/peer-ca.crt\nsnapshot-count: 10000\n"
        "watch-progress-notify-interval: 5000000000\n",
    )


def leftovers(tree: Tree) -> None:
    """What uninstalling leaves behind: folders without anything in them that starts etcd."""
    for name in (
        "/etc/kubernetes/manifests", "/var/lib/rancher/rke2/server/db/etcd", "/var/lib/rancher/k3s/server/db/etcd",
        "/etc/rancher/rke2", "/etc/etcd", "/var/lib/etcd",
    ):  # fmt: skip
        tree.folder(name)
    assert os.access(tree.root, os.R_OK)
