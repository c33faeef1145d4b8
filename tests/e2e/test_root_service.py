"""A node as container platforms make it: etcd in a root folder of its own, `etcdctl` nowhere else, no configuration."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandbox import booted_node
from tests.sandbox.container_root import make_image
from tests.sandbox.nspawn_node import BootedNode, CanNotBoot, tree
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
IMAGE = "/srv/etcd-image"
WITHOUT_SCHEDULE = "[Service]\nEnvironment=ETCD_AGENT_SNAPSHOT__SCHEDULE=false\n"
URL = "http://127.0.0.1:2379"
STATE = "/var/lib/etcd-agent"
TRACE_ID = "65b9e4c0cccccccccccccccccccccccc"
ETCD_UNIT = f"""\
[Unit]
Description=etcd, in a root folder and a mount namespace of its own, with the host's network
[Service]
RootDirectory={IMAGE}
MountAPIVFS=yes
BindPaths=/var/lib/etcd
ExecStart=/usr/local/bin/etcd --name=node-1 --data-dir=/var/lib/etcd --log-level=warn \\
  --listen-client-urls={URL} --advertise-client-urls={URL}
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedNode]:
    try:
        with tree(tmp_path_factory.mktemp("boot")) as booted:
            booted_node.prepare(booted)
            for tool in ("etcd", "etcdctl", "etcdutl"):
                booted.path(booted_node.TOOLS / tool).unlink()
            make_image(booted.path(IMAGE), "3.5")
            booted.path("/var/lib/etcd").mkdir(mode=0o700)
            booted.write("/etc/systemd/system/etcd.service", ETCD_UNIT)
            before, after = booted_node.install_commands()
            booted_node.install(booted, before)
            shutil.rmtree(booted.path("/etc/etcd-agent"))
            # Its own first snapshot would ask root before the one of the test does.
            booted.write("/etc/systemd/system/etcd-agent.service.d/test.conf", WITHOUT_SCHEDULE)
            booted.boot()
            booted.run("sh", "-euc", after)
            wait_for_etcd(booted)
            yield booted
    except CanNotBoot as reason:
        pytest.skip(str(reason))


def wait_for_etcd(node: BootedNode) -> None:
    """Until it serves: it listens once its database is there."""
    script = "import socket; socket.create_connection(('127.0.0.1', 2379))"
    try:
        wait_until(lambda: node.run("python3", "-c", script, check=False).returncode == 0, "etcd does not come up")
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{node.run('journalctl', '-u', 'etcd', '-n', '20').stdout}") from None


def snapshot(node: BootedNode, op_id: str, trace_id: str = "") -> dict[str, Any]:
    argv = ("env", f"TRACE_ID={trace_id}", "etcd-agent", "submit", "snapshot", "--op-id", op_id, "--json")
    printed = node.run(*argv, check=False).stdout
    answer: dict[str, Any] = json.loads(printed)
    return answer


def log_lines(node: BootedNode) -> list[dict[str, Any]]:
    text = node.run("cat", "/var/log/etcd-agent/agent.jsonl").stdout
    return [json.loads(line) for line in text.splitlines()]


def pin(node: BootedNode) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.run("cat", f"{STATE}/tools/pinned.json").stdout)
    return found


def test_a_snapshot_is_taken_with_tools_out_of_the_container(node: BootedNode) -> None:
    assert node.run("sh", "-c", "command -v etcdctl", check=False).returncode != 0
    answer = snapshot(node, "snapshot-out-of-the-box", TRACE_ID)
    assert answer["state"] == "done", json.dumps(answer, indent=1)
    steps = [step["name"] for step in answer["result"]["steps"]]
    assert steps == ["tools", "preflight", "save", "verify", "store", "manifest"]
    pinned = pin(node)
    assert pinned["trace_id"] == TRACE_ID
    assert pinned["source_exe"] == "/usr/local/bin/etcd"
    for tool in pinned["tools"]:
        path = f"{STATE}/tools/{pinned['folder']}/{tool['name']}"
        assert node.run("stat", "-c", "%U:%G %a", path).stdout == "root:root 755\n"
        copied = node.run("sha256sum", path, f"{IMAGE}{tool['source']}").stdout.split()
        assert copied[::2] == [tool["sha256"]] * 2


def test_one_trace_goes_from_the_agent_through_the_root_service_and_back(node: BootedNode) -> None:
    lines = [line for line in log_lines(node) if line.get("trace_id") == TRACE_ID]
    events = [line["event"] for line in lines if line["event"].startswith(("root.", "etcd.", "tools."))]
    assert events == [
        "root.asked", "root.started", "etcd.found", "tools.pinned", "tools.pinned", "root.finished", "root.answered",
        "tools.ready",
    ]  # fmt: skip
    (asked,) = [line for line in lines if line["event"] == "root.asked"]
    of_root = [line for line in lines if line["service"] == "etcd-agent-root"]
    assert {line["op_id"] for line in of_root} == {"snapshot-out-of-the-box"}
    assert {line["parent_span_id"] for line in of_root} == {asked["span_id"]}
    in_journal = [
        json.loads(entry["MESSAGE"])["event"] for entry in node.journal("--identifier=etcd-agent-root")
        if entry["MESSAGE"].startswith("{")
    ]  # fmt: skip
    assert in_journal == [line["event"] for line in of_root]


def test_the_timeline_shows_what_root_did(node: BootedNode) -> None:
    shown = node.run("etcd-agent", "trace", TRACE_ID).stdout
    print(shown)
    assert "is the etcd that is meant" in shown


def test_the_configuration_that_root_goes_by_is_roots(node: BootedNode) -> None:
    assert node.run("stat", "-c", "%U %a", "/etc/etcd-agent").stdout == "root 755\n"


def test_the_next_one_asks_root_for_nothing(node: BootedNode) -> None:
    before = pin(node)
    assert snapshot(node, "snapshot-with-the-copy")["state"] == "done"
    assert pin(node) == before
    assert [line["event"] for line in log_lines(node)].count("root.asked") == 1


def test_status_tells_where_the_tools_come_from(node: BootedNode) -> None:
    told = json.loads(node.run("etcd-agent", "status", "--json", check=False).stdout)["parts"]["tools"]
    pinned = pin(node)
    assert told["source"] == "copied"
    assert told["folder"] == f"{STATE}/tools/{pinned['folder']}"
    assert (told["copied_from"], told["copied_at"]) == ("/usr/local/bin/etcd", pinned["copied_at"])
    assert told["etcdctl_version"].startswith("3.5.")
    assert f"etcdctl {told['etcdctl_version']} in" in node.run("etcd-agent", "status", check=False).stdout


def test_the_root_service_ends_and_leaves_no_request(node: BootedNode) -> None:
    wait_until(lambda: node.show("ActiveState", "etcd-agent-root.service") == "inactive", "the root service still runs")
    assert node.show("Result", "etcd-agent-root.service") == "success"
    assert node.show("ActiveState", "etcd-agent-root.path") == "active"
    assert node.run("ls", "-A", f"{STATE}/spool/root").stdout == ""


def test_the_service_user_can_not_lead_root_elsewhere(node: BootedNode) -> None:
    """He may rename what lies in his folder; then root does nothing, and says so."""
    shadow = node.run("sha256sum", "/etc/shadow").stdout
    listing = node.run("ls", "-lR", "/etc/etcd-agent-victim", check=False).stdout
    as_user = "runuser -u etcd-agent -- sh -euc"
    node.run("sh", "-euc", f"""
        mkdir /srv/victim && chmod 700 /srv/victim
        {as_user} 'cd {STATE}/spool && mv root root.away && ln -s /srv/victim root
                   cd .. && mv tools tools.away && ln -s /srv/victim tools'""")  # fmt: skip
    failed = node.run("systemctl", "start", "etcd-agent-root.service", check=False)
    assert failed.returncode != 0
    assert node.run("ls", "-A", "/srv/victim").stdout == ""
    node.run("sh", "-euc", f"""
        {as_user} 'cd {STATE}/spool && rm root && mv root.away root && cd .. && rm tools && mv tools.away tools'
        systemctl reset-failed etcd-agent-root.service && systemctl restart etcd-agent-root.path""")  # fmt: skip
    node.run("rm", f"{STATE}/tools/pinned.json")
    assert snapshot(node, "snapshot-after-the-trick")["state"] == "done"
    assert node.run("sha256sum", "/etc/shadow").stdout == shadow
    assert node.run("ls", "-lR", "/etc/etcd-agent-victim", check=False).stdout == listing


def test_hostile_requests_are_answered_removed_and_end_the_service(node: BootedNode) -> None:
    script = f"""
        cd {STATE}/spool/root
        ln -s /etc/shadow link-to-shadow.json
        mkdir folder-in-the-way.json folder-in-the-way.json/deep && touch folder-in-the-way.json/deep/file
        mkfifo pipe-request.json
        truncate -s 10G sparse-request.json
        printf '{{"id":"fence-0001","verb":"fence","trace_id":"{TRACE_ID}"}}' > fence-0001.json
        printf x > 'no request'
    """
    node.run("runuser", "-u", "etcd-agent", "--", "sh", "-euc", script)
    done = f"{STATE}/spool/root-done"
    wait_until(
        lambda: node.run("ls", f"{STATE}/spool/root").stdout == "", f"left: {node.run('ls', '-lA', done).stdout}"
    )
    answer = json.loads(node.run("cat", f"{done}/fence-0001.json").stdout)
    assert (answer["status"], answer["error"]["code"]) == ("rejected", "bad_input")
    assert answer["error"]["message"] == "the verb 'fence' does not exist"
    for name in ("link-to-shadow", "pipe-request", "sparse-request"):
        told = json.loads(node.run("cat", f"{done}/{name}.json").stdout)
        assert told["status"] == "rejected", told
        assert "root:" not in json.dumps(told)
    wait_until(lambda: node.show("ActiveState", "etcd-agent-root.service") == "inactive", "the root service still runs")
    assert node.show("ActiveState", "etcd-agent-root.path") == "active"


def test_an_upgrade_of_etcd_brings_its_own_tools(node: BootedNode) -> None:
    former = pin(node)
    node.run("systemctl", "stop", "etcd.service")
    node.run("rm", "-rf", "/var/lib/etcd/member")  # 3.4 does not open what 3.5 wrote
    shutil.rmtree(node.path(IMAGE) / "usr/local/bin")
    make_image(node.path(IMAGE), "3.4")
    node.run("systemctl", "start", "etcd.service")
    wait_for_etcd(node)
    answer = snapshot(node, "snapshot-of-another-minor")
    assert answer["state"] == "done", json.dumps(answer, indent=1)
    pinned = pin(node)
    assert [tool["name"] for tool in pinned["tools"]] == ["etcdctl"]
    assert pinned["tools"][0]["sha256"] != former["tools"][0]["sha256"]
    assert "tools.outdated" in [line["event"] for line in log_lines(node)]
