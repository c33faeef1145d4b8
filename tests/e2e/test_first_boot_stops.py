"""What systemd does to the service in the middle of a snapshot: stop, watchdog, a killed daemon, a reboot."""

from collections.abc import Iterator

import pytest

from tests.sandbox.held_snapshots import STATE, held, manifests, parts, record, until_done
from tests.sandbox.nspawn_node import BootedNode
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]
CGROUP = "/sys/fs/cgroup/system.slice/etcd-agent.service/cgroup.procs"


def processes(node: BootedNode) -> set[str]:
    """The pids of the service, the daemon's and the workers'."""
    return set(node.run("cat", CGROUP).stdout.split())


def restarts(node: BootedNode) -> int:
    return int(node.show("NRestarts"))


def boot_id(node: BootedNode) -> str:
    return node.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()


def test_a_stop_in_the_middle_of_a_snapshot_leaves_nothing_half_and_costs_no_attempt(booted: BootedNode) -> None:
    op_id = "snapshot-stopped"
    with held(booted, op_id):
        booted.run("systemctl", "stop", "etcd-agent")
        assert [booted.show(name) for name in ("ActiveState", "Result", "ExecMainStatus")] == [
            "inactive",
            "success",
            "0",
        ]
        assert parts(booted) == []
        assert record(booted, op_id, "running")["attempt"] == 0
    booted.run("systemctl", "start", "etcd-agent")
    assert until_done(booted, op_id)["results"][-1]["attempt"] == 1
    assert len(manifests(booted, op_id)) == 1


def test_a_wedged_daemon_is_restarted_by_the_watchdog_and_its_operation_goes_on(booted: BootedNode) -> None:
    op_id = "snapshot-wedged"
    with booted.drop_in("WatchdogSec=3s", "RestartSec=100ms"):
        booted.run("systemctl", "restart", "etcd-agent")
        with held(booted, op_id):
            former = processes(booted)
            booted.run("kill", "-STOP", booted.show("MainPID"))
            wait_until(lambda: restarts(booted) == 1, "the watchdog does not restart it")
            wait_until(lambda: booted.show("ActiveState") == "active", "the next daemon does not come up")
            assert former & processes(booted) == set()
        assert until_done(booted, op_id)["results"][-1]["attempt"] == 2
    assert len(manifests(booted, op_id)) == 1
    told = [entry["MESSAGE"] for entry in booted.journal("_PID=1", "UNIT=etcd-agent.service")]
    assert any("Watchdog timeout" in message for message in told)


def test_with_a_killed_daemon_its_workers_end_and_the_next_daemon_runs_it_again(booted: BootedNode) -> None:
    op_id = "snapshot-of-a-killed-daemon"
    with booted.drop_in("RestartSec=100ms"):
        booted.run("systemctl", "restart", "etcd-agent")
        with held(booted, op_id):
            former = processes(booted)
            assert len(former) > 1
            booted.run("kill", "-KILL", booted.show("MainPID"))
            wait_until(lambda: restarts(booted) == 1, "systemd does not restart it")
            wait_until(lambda: booted.show("ActiveState") == "active", "the next daemon does not come up")
            assert former & processes(booted) == set()
        assert until_done(booted, op_id)["results"][-1]["attempt"] == 2
    assert len(manifests(booted, op_id)) == 1


@pytest.fixture
def sees_the_nodes_boot_id(booted: BootedNode) -> Iterator[None]:
    """A container's boot id lies over the one in /proc: these settings, which make a new /proc, would show another."""
    drop_in = "/etc/systemd/system/etcd-agent.service.d/boot-id.conf"
    booted.write(drop_in, "[Service]\nProtectProc=default\nProtectKernelTunables=no\nProtectControlGroups=no\n")
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "restart", "etcd-agent")
    yield
    booted.path(drop_in).unlink()
    booted.run("systemctl", "daemon-reload")


@pytest.mark.usefixtures("sees_the_nodes_boot_id")
def test_after_a_hard_reboot_what_ran_is_run_again_and_what_was_asked_for_is_kept(booted: BootedNode) -> None:
    running, queued = "snapshot-rebooted", "snapshot-queued"
    before = boot_id(booted)
    with held(booted, running):
        booted.run("etcd-agent", "submit", "snapshot", "--op-id", queued, "--no-wait")
        assert record(booted, running, "running")["acceptance"]["boot_id"] == before
        booted.reboot("-ff")
    assert boot_id(booted) != before
    for op_id, attempt in ((running, 2), (queued, 1)):
        done = until_done(booted, op_id)
        assert done["results"][-1]["attempt"] == attempt
        assert done["acceptance"]["boot_id"] == boot_id(booted)
        assert len(manifests(booted, op_id)) == 1
    assert list(booted.path(STATE / "work").rglob("*.db*")) == []


def test_the_node_powers_off_in_time_with_the_service_stopped(booted: BootedNode) -> None:
    booted.power_off()
    lines = booted.path("/var/log/etcd-agent/agent.jsonl").read_text().splitlines()
    assert '"daemon.stopped"' in lines[-1]
