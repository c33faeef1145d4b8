"""A control plane to play with: `make sandbox`. It runs until Ctrl-C; then all of it is gone."""

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.sandbox import control_plane, kubernetes_data
from tests.sandbox.control_plane import ControlPlane

FILE_MODE_EXECUTABLE = 0o755


def main() -> int:
    """Boots it, says how to use it, and waits."""
    parser = argparse.ArgumentParser(prog="make sandbox")
    parser.add_argument("--size-mb", type=int, default=20, help="how much Kubernetes-like data etcd gets")
    parser.add_argument("--members", type=int, default=3, help="how many etcd members")
    parser.add_argument("--etcd", default="3.5", help="which version of etcd")
    wanted = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with (
        tempfile.TemporaryDirectory(prefix="etcd-agent-sandbox-") as folder,
        contextlib.suppress(KeyboardInterrupt),
        control_plane.running(Path(folder) / "sandbox", etcd_version=wanted.etcd, size=wanted.members) as plane,
    ):
        kubernetes_data.fill(plane.etcd.members[0], wanted.size_mb, lambda written_bytes: None)
        explain(plane)
        stop.wait()
    print("sandbox: stopped and removed")
    return 0


def explain(plane: ControlPlane) -> None:
    """Writes one script for each node, which is that node's shell prompt, and says what else there is."""
    print("nodes: each of these is `etcd-agent` of that node, such as `… snapshot create`")
    for node in plane.nodes:
        script = plane.folder / node.name / "etcd-agent"
        settings = " ".join(f"{name}='{value}'" for name, value in node.environment.items())
        script.write_text(f'#!/bin/sh\nexec env {settings} etcd-agent "$@"\n')
        script.chmod(FILE_MODE_EXECUTABLE)
        print(f"  {node.name}  {node.instance_id}  {node.member.client_url}  {script}")
    tls = plane.etcd.members[0].certificate
    print(f"etcdctl: {plane.tools / 'etcdctl'} --cacert {tls.ca_cert} --cert {tls.cert} --key {tls.key}")
    if plane.s3 is not None:
        print(f"S3: {plane.s3.name} at {plane.s3.endpoint_url}, bucket {plane.s3.bucket}")
    print(f"SSM and Auto Scaling stand-ins: {plane.aws.server.endpoint_url}")
    print(f"everything lies in {plane.folder}; Ctrl-C ends and removes it", flush=True)


if __name__ == "__main__":
    sys.exit(main())
