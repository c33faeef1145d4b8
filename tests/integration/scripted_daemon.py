"""A real daemon below ETCD_AGENT_ROOT whose workers do what a test wrote down: `python -m … [WORKER_ARGV…]`."""

import logging
import os
import sys
from pathlib import Path

from agent import logs
from agent.adapters.spool import Spool
from agent.adapters.systemd import Notifier
from agent.config import Paths
from agent.daemon import Daemon, Timing
from agent.housekeeping import Housekeeping
from agent.intake import Intake
from tests.integration import scripted_operations


def main() -> None:
    scripted_operations.register()
    paths = Paths.from_environment(os.environ)
    for folder in (paths.locks, paths.work, paths.log_folder, paths.daemon_lock.parent, paths.state / "script"):
        folder.mkdir(parents=True, exist_ok=True)
    logs.configure(service="etcd-agent", version="test", file=paths.log_folder / "agent.jsonl")
    logging.getLogger().setLevel("INFO")
    spool = Spool(paths.spool)
    argv = sys.argv[1:] or [sys.executable, "-m", "tests.integration.scripted_worker"]
    intake = Intake(
        spool=spool, locks=paths.locks, work=paths.work, worker_argv=[*argv, str(paths.state)],
        environment=dict(os.environ), timeout_s=lambda operation: int(os.environ.get("TIMEOUT_S", "60")),
        parked_interval_s=float(os.environ.get("PARKED_INTERVAL_S", "30")),
        caretaker_s=float(os.environ.get("CARETAKER_S", "20")),
        clean_up_s=float(os.environ.get("CLEAN_UP_S", "0.5")),
    )  # fmt: skip
    Daemon(
        spool_=spool, lock_path=paths.daemon_lock, intake=intake, notifier=Notifier({}),
        timing=Timing(scan_interval_s=30.0, stop_timeout_s=1.0),
        housekeeping=Housekeeping(spool=spool, locks=paths.locks, kept_s=15 * 86400.0),
        rotate_log=lambda: None,
    ).run()  # fmt: skip


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
