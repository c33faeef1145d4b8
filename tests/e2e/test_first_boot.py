"""The service in a real systemd, installed by the guide's commands: its rights, its work, its log."""

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import rights_probe
from tests.e2e.conftest import LEAST_LOG_BYTES
from tests.sandbox import booted_node, held_snapshots, ssm_document
from tests.sandbox.held_snapshots import STATE
from tests.sandbox.nspawn_node import PROJECT, BootedNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
CAP_DAC_READ_SEARCH = 1 << 2
LOG = Path("/var/log/etcd-agent/agent.jsonl")
CONFIG_FILE = Path("/etc/etcd-agent/config.toml")
TRACE_ID = "65b9e4c0cccccccccccccccccccccccc"
# Lines of commands, which the journal does not hear of.
OF_COMMANDS = "agent.cli"


@pytest.fixture(scope="module")
def probed(booted: BootedNode) -> dict[str, Any]:
    """What a program may do under the unit's own settings."""
    booted.write("/usr/local/lib/rights_probe.py", Path(rights_probe.__file__).read_text())
    booted.run("mkdir", "--mode=1777", rights_probe.EVERYONES)
    with booted.drop_in("ExecStartPre=/usr/bin/python3 /usr/local/lib/rights_probe.py"):
        booted.run("systemctl", "restart", "etcd-agent")
    (told,) = [line for line in service_lines(booted) if "writes" in line]
    return told


def service_lines(node: BootedNode) -> list[dict[str, Any]]:
    """The JSON objects that the service wrote to its standard error, as the journal has them."""
    node.run("journalctl", "--sync")
    entries = node.journal("_SYSTEMD_UNIT=etcd-agent.service")
    return [json.loads(entry["MESSAGE"]) for entry in entries if entry["MESSAGE"].startswith("{")]


def file_lines(node: BootedNode) -> list[dict[str, Any]]:
    """The lines of the log file and the rotated ones, the oldest first."""
    paths = sorted(node.path(LOG.parent).glob(f"{LOG.name}*"), key=lambda path: path.name, reverse=True)
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def of_the_service(lines: list[dict[str, Any]]) -> Counter[str]:
    loggers = [(line.get("logger", OF_COMMANDS), json.dumps(line)) for line in lines]
    return Counter(text for logger, text in loggers if not logger.startswith(OF_COMMANDS))


def submit(node: BootedNode, op_id: str) -> dict[str, Any]:
    printed = node.run("etcd-agent", "submit", "snapshot", "--op-id", op_id, "--json").stdout
    answer: dict[str, Any] = json.loads(printed)
    return answer


def test_systemd_hears_that_the_daemon_is_ready_and_what_it_does(booted: BootedNode) -> None:
    assert booted.show("ActiveState") == "active"
    assert booted.show("StatusText") == "idle; 0 queued; 0 ended since start"
    assert booted.show("NRestarts") == "0"


def test_the_daemon_is_its_user_with_one_capability_and_can_not_gain_another(booted: BootedNode) -> None:
    text = booted.run("cat", f"/proc/{booted.show('MainPID')}/status").stdout
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    uid = booted.run("id", "-u", "etcd-agent").stdout.strip()
    assert status["Uid"].split() == [uid] * 4
    masks = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")}
    assert masks == dict.fromkeys(masks, CAP_DAC_READ_SEARCH)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_daemon_writes_its_own_folders_and_nothing_else(probed: dict[str, Any]) -> None:
    assert probed["writes"] == ["/var/lib/etcd-agent", "/var/log/etcd-agent", "/run/etcd-agent"]


def test_the_daemon_reads_roots_key_and_gains_nothing_by_it(probed: dict[str, Any]) -> None:
    assert probed["key"] == ""
    assert probed["chown"] == "Operation not permitted"
    assert probed["packets"] == "Address family not supported by protocol"


def test_the_daemon_sees_no_processes_of_others(probed: dict[str, Any]) -> None:
    assert probed["others"] == [probed["own"]]


@pytest.mark.parametrize("folder, mode", [
    ("/var/lib/etcd-agent", 0o750), ("/var/lib/etcd-agent/spool", 0o750), ("/var/lib/etcd-agent/work", 0o700),
    ("/var/lib/etcd-agent/snapshots", 0o700), ("/var/log/etcd-agent", 0o750), ("/run/etcd-agent", 0o750),
])  # fmt: skip
def test_the_folders_are_the_services_own(booted: BootedNode, folder: str, mode: int) -> None:
    printed = booted.run("stat", "--format=%a %U %G", folder).stdout
    assert printed == f"{mode:o} etcd-agent etcd-agent\n"


def test_a_snapshot_is_taken_with_a_key_that_only_root_may_read(booted: BootedNode) -> None:
    key = booted_node.PKI / "node-1.key"
    assert booted.run("stat", "--format=%a %U", str(key)).stdout == "600 root\n"
    answer = submit(booted, "snapshot-with-roots-key")
    assert answer["state"] == "done"
    assert len(held_snapshots.manifests(booted, "snapshot-with-roots-key")) == 1


def test_ssms_script_run_by_root_hands_over_as_the_spools_owner(booted: BootedNode) -> None:
    op_id = "snapshot-0123456789abcdef"
    content = (PROJECT / "lambdas/document.yaml").read_text()
    document = ssm_document.parse("EtcdAgent", 1, content)
    given = {"traceId": TRACE_ID, "operation": "snapshot", "opId": op_id, "requestedAt": "2026-01-31T12:00:00Z"}
    values = document.values({name: [value] for name, value in given.items()})
    prepared = document.prepare(values, ssm_document.AgentKind.NEW)
    booted.write("/root/_script.sh", prepared.script, 0o700)
    variables = {"PATH": "/usr/bin:/bin", **prepared.variables}
    printed = booted.run("sh", "-c", "/root/_script.sh", variables=variables).stdout
    answer = json.loads(printed)
    assert (answer["state"], answer["trace_id"]) == ("done", TRACE_ID)
    printed = booted.run("stat", "--format=%U %G", str(STATE / f"spool/done/{op_id}.json"), str(LOG)).stdout
    assert set(printed.splitlines()) == {"etcd-agent etcd-agent"}


def test_submit_of_root_is_the_spools_owner_while_it_waits(booted: BootedNode) -> None:
    uid, op_id = booted.run("id", "-u", "etcd-agent").stdout.strip(), "snapshot-waited-for"
    script = """
        etcd-agent submit snapshot --op-id $0 & waiter=$!
        until [ "$(awk '/^Uid:/ { print $2 }' /proc/$waiter/status)" = $1 ]; do kill -0 $waiter || exit; done
        cat /proc/$waiter/status
        kill $waiter
    """
    with held_snapshots.held(booted, op_id):
        printed = booted.run("sh", "-euc", script, op_id, uid).stdout
    status = dict(line.split(":\t", 1) for line in printed.splitlines() if ":\t" in line)
    assert status["Uid"].split() == [uid] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    held_snapshots.until_done(booted, op_id)


def test_a_bad_configuration_ends_the_service_once_with_all_problems_told(booted: BootedNode) -> None:
    good = booted.path(CONFIG_FILE).read_text()
    booted.write(CONFIG_FILE, f'nonsense = 1\n{good}[store]\nkind = "s3"\n')
    try:
        assert booted.run("systemctl", "restart", "etcd-agent", check=False).returncode != 0
        shown = [booted.show(name) for name in ("ActiveState", "SubState", "ExecMainStatus", "NRestarts")]
        assert shown == ["failed", "failed", "2", "0"]
        told = booted.run("systemctl", "status", "--no-pager", "etcd-agent", check=False).stdout
        assert "the configuration has 2 problems" in told
        assert "nonsense: unknown key" in told
        assert "store.bucket: needed" in told
    finally:
        booted.write(CONFIG_FILE, good)
        booted.run("systemctl", "restart", "etcd-agent")


def test_a_full_log_file_is_rotated_while_workers_write_and_no_line_is_lost(booted: BootedNode) -> None:
    path = booted.path(LOG)
    filler = json.dumps({"filler": "x" * 1000}) + "\n"
    with path.open("a") as log:
        log.write(filler * ((LEAST_LOG_BYTES - path.stat().st_size) // len(filler)))
    op_ids = [f"snapshot-rotated-{number}" for number in range(4)]
    for op_id in op_ids:
        booted.run("etcd-agent", "submit", "snapshot", "--op-id", op_id, "--no-wait")
    for op_id in op_ids:
        held_snapshots.until_done(booted, op_id)
    rotated = path.with_name(f"{LOG.name}.1")
    wait_until(rotated.exists, "the log file is not rotated")
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, rotated)} == {0o640}
    assert {file.stat().st_uid for file in (path, rotated)} == {path.parent.stat().st_uid}
    ended = [line["op_id"] for line in file_lines(booted) if line.get("event") == "operation.finished"]
    assert [op_id for op_id in ended if op_id in op_ids] == op_ids


def test_the_journal_and_the_log_file_have_the_same_lines(booted: BootedNode) -> None:
    wait_until(lambda: booted.show("StatusText").startswith("idle; 0 queued"), "the daemon does not come to rest")
    in_journal, in_file = of_the_service(service_lines(booted)), of_the_service(file_lines(booted))
    assert sum(in_file.values()) > 20
    assert in_file == in_journal


def test_the_service_makes_its_folders_itself_when_nobody_else_did(booted: BootedNode) -> None:
    script = "cd /var/lib/etcd-agent; stat --format='%n %a %U %G' . * spool/* /var/log/etcd-agent"
    before = set(booted.run("sh", "-euc", script).stdout.splitlines())
    booted.run("systemctl", "stop", "etcd-agent")
    booted.run("rm", "-r", "/var/lib/etcd-agent", "/var/log/etcd-agent")
    booted.run("systemctl", "start", "etcd-agent")
    assert submit(booted, "snapshot-in-new-folders")["state"] == "done"
    after = set(booted.run("sh", "-euc", script).stdout.splitlines())
    of_root = {line for line in before if " root " in line}
    assert before - of_root <= after
    booted.run("systemd-tmpfiles", "--create", "etcd-agent.conf")
    assert set(booted.run("sh", "-euc", script).stdout.splitlines()) == before
