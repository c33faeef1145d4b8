"""File trees of nodes with plain etcd: as packages, etcd's own guides and Kubespray set it up."""

from collections.abc import Mapping, Sequence

from tests.sandbox.platform_pki import CLIENT, PlatformAuthority
from tests.sandbox.platform_trees import ADDRESS, BOTH, Tree

DEBIAN_UNIT = """[Unit]
Description=etcd - highly-available key value store
Documentation=https://etcd.io/docs
After=network.target

[Service]
Environment=DAEMON_ARGS=
Environment=ETCD_NAME=%H
Environment=ETCD_DATA_DIR=/var/lib/etcd/default
EnvironmentFile=-/etc/default/%p
Type=notify
User=etcd
#ExecStart=/bin/sh -c "GOMAXPROCS=$(nproc) /usr/bin/etcd $DAEMON_ARGS"
ExecStart=/usr/bin/etcd $DAEMON_ARGS
Restart=on-abnormal

[Install]
WantedBy=multi-user.target
Alias=etcd2.service
"""
RHEL_UNIT = """[Unit]
Description=Etcd Server
After=network.target

[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
EnvironmentFile=-/etc/etcd/etcd.conf
User=etcd
# set GOMAXPROCS to number of processors
ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\\"${ETCD_NAME}\\" --data-dir=\\"${ETCD_DATA_DIR}\\" \
--listen-client-urls=\\"${ETCD_LISTEN_CLIENT_URLS}\\""
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""


def debian(tree: Tree, *, defaults: str = "", enabled: bool = True) -> None:
    """Debian's package etcd-server."""
    tree.write("/usr/lib/systemd/system/etcd.service", DEBIAN_UNIT, 0o644)
    tree.write("/etc/default/etcd", f"## etcd(1) daemon options\n##\n## Use environment to override\n{defaults}", 0o644)
    tree.folder("/var/lib/etcd/default/member/snap")
    if enabled:
        tree.enable("etcd.service")


def rhel(tree: Tree) -> None:
    """The package of RHEL and its kin."""
    tree.write("/usr/lib/systemd/system/etcd.service", RHEL_UNIT, 0o644)
    tree.write(
        "/etc/etcd/etcd.conf",
        '#[Member]\n#ETCD_CORS=""\nETCD_DATA_DIR="/var/lib/etcd/default.etcd"\n#ETCD_WAL_DIR=""\n'
        'ETCD_LISTEN_CLIENT_URLS="http://localhost:2379"\nETCD_NAME="default"\n#\n#[Clustering]\n'
        'ETCD_ADVERTISE_CLIENT_URLS="http://localhost:2379"\n',
        0o644,
    )
    tree.folder("/var/lib/etcd/default.etcd/member/snap")
    tree.enable("etcd.service")


def upstream(
    tree: Tree, flags: Mapping[str, str] | None = None, *, pki: str = "/etc/etcd/pki", client: bool = True,
    server_usages: Sequence[object] | None = None,
) -> None:  # fmt: skip
    """etcd's own release with a unit as its guides have it: TLS, and every option a flag."""
    authority = PlatformAuthority(tree.path(f"{pki}/ca.crt"))
    usages = BOTH if server_usages is None else list(server_usages)
    authority.issue(tree.path(f"{pki}/server.crt"), tree.path(f"{pki}/server.key"), usages)  # type: ignore[arg-type]
    if client:
        authority.issue(tree.path(f"{pki}/client.crt"), tree.path(f"{pki}/client.key"), [CLIENT])
    all_flags = {
        "name": "node-1", "data-dir": "/var/lib/etcd", "listen-client-urls": f"https://{ADDRESS}:2379",
        "advertise-client-urls": f"https://{ADDRESS}:2379", "cert-file": f"{pki}/server.crt",
        "key-file": f"{pki}/server.key", "trusted-ca-file": f"{pki}/ca.crt", **(flags or {}),
    }  # fmt: skip
    words = "".join(f"  --{name} {value} \\\n" for name, value in all_flags.items())
    tree.write(
        "/etc/systemd/system/etcd.service",
        f"[Unit]\nDescription=etcd\n\n[Service]\nType=notify\nExecStart=/usr/local/bin/etcd \\\n{words}"
        "  --client-cert-auth\nRestart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n",
        0o644,
    )
    tree.folder("/var/lib/etcd/member/snap")
    tree.enable("etcd.service", "/etc/systemd/system")


def kubespray(tree: Tree) -> None:
    """Kubespray's etcd on the host: a unit, and every option a variable of one file."""
    ssl = "/etc/ssl/etcd/ssl"
    authority = PlatformAuthority(tree.path(f"{ssl}/ca.pem"))
    authority.issue(tree.path(f"{ssl}/member-node1.pem"), tree.path(f"{ssl}/member-node1-key.pem"), BOTH)
    tree.write(
        "/etc/systemd/system/etcd.service",
        "[Unit]\nDescription=etcd\n\n[Service]\nType=notify\nUser=root\nEnvironmentFile=/etc/etcd.env\n"
        "ExecStart=/usr/local/bin/etcd\nNotifyAccess=all\n\n[Install]\nWantedBy=multi-user.target\n",
        0o644,
    )
    tree.write(
        "/etc/etcd.env",
        "# Environment file for etcd\nETCD_DATA_DIR=/var/lib/etcd\nETCD_CLIENT_CERT_AUTH=true\n"
        f"ETCD_LISTEN_CLIENT_URLS=https://{ADDRESS}:2379,https://127.0.0.1:2379\nETCD_NAME=etcd1\n"
        f"ETCD_TRUSTED_CA_FILE={ssl}/ca.pem\nETCD_CERT_FILE={ssl}/member-node1.pem\n"
        f"ETCD_KEY_FILE={ssl}/member-node1-key.pem\n",
    )
    tree.enable("etcd.service", "/etc/systemd/system")
