"""The supervisor: takes requests, starts one worker process each, bounds, reaps and re-runs them.

It never does an operation's work itself. Signals and file events only wake the loop; one thread owns all state.
"""

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters import process, spool
from agent.adapters.spool import Spool
from agent.adapters.systemd import Notifier
from agent.errors import AgentError
from agent.housekeeping import Housekeeping, WallClock
from agent.intake import Intake
from agent.logs import emit
from agent.scheduler import Schedule
from agent.workers import going_on

LOCK_TRIES = 20
ORPHAN_INTERVAL_S = 0.5
CLEAN_UP_S = 5.0
HOUSEKEEPING_INTERVAL_S = 3600.0
SECOND_LOOK_S = 90.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """How often the daemon looks without being told, and how long it waits for workers when it stops, in seconds."""

    scan_interval_s: float
    stop_timeout_s: float


class Daemon:
    """One per node, which holds flock on `lock_path` while it lives."""

    def __init__(
        self, *, spool_: Spool, lock_path: Path, intake: Intake, notifier: Notifier, timing: Timing,
        housekeeping: Housekeeping, rotate_log: Callable[[], object], schedules: Sequence[Schedule] = (),
    ) -> None:  # fmt: skip
        self._spool = spool_
        self._lock = spool.lock_at(lock_path)
        self._intake = intake
        self._notifier = notifier
        self._timing = timing
        self._rotate_log = rotate_log
        self._schedules = tuple(schedules)
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stops_asked = 0
        self._housekeeping = housekeeping
        self._wall_clock = WallClock()
        self._kept_house = False
        self._housekeeping_due = 0.0
        self._scan_due = 0.0
        self._rotation_due = 0.0

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises AgentError when another daemon runs on this node."""
        self._take_lock()
        self._spool.create()
        with self._signals(), spool.watch([self._spool.folder / name for name in ("incoming", "cancel")], self._wake):
            emit(log, logging.INFO, "daemon.started", f"serving {self._spool.folder}", pid=os.getpid())
            self._cycle()
            self._notifier.ready(self._intake.describe())
            while not self._stops_asked:
                self._sleep()
                self._cycle()
            self._stop()
        emit(log, logging.INFO, "daemon.stopped", "stopped")

    def _cycle(self) -> None:
        now = time.monotonic()
        self._wall_clock.look()
        for schedule in self._schedules:
            with going_on("the node's own schedule"):  # a folder that can not be read must not end the service
                schedule.look()
        self._intake.cycle()
        self._scan_due = now + self._timing.scan_interval_s
        self._notifier.status(self._intake.describe())
        self._notifier.alive()
        if now >= self._housekeeping_due:
            # A second look soon after the first one sweeps what killed writers left before the start.
            self._housekeeping_due = now + (HOUSEKEEPING_INTERVAL_S if self._kept_house else SECOND_LOOK_S)
            self._kept_house = True
            self._try_to_keep_house()
        self._try_to_rotate_log(now)

    def _try_to_keep_house(self) -> None:
        try:
            self._housekeeping.prune()
            self._housekeeping.sweep()
        except OSError as error:
            emit(log, logging.WARNING, "spool.not_pruned", f"old results stay, they can not be removed: {error}")

    def _try_to_rotate_log(self, now: float) -> None:
        if now < self._rotation_due:
            return
        try:
            self._rotate_log()
        except OSError as error:
            self._rotation_due = now + HOUSEKEEPING_INTERVAL_S
            emit(log, logging.WARNING, "log.not_rotated", f"the log file grows, it can not be rotated: {error}")

    def _sleep(self) -> None:
        waits = [self._scan_due - time.monotonic()]
        if self._notifier.watchdog_interval_s is not None:
            waits.append(self._notifier.watchdog_interval_s)
        if self._intake.has_orphans:
            waits.append(ORPHAN_INTERVAL_S)
        if (deadline_s := self._intake.next_deadline_in_s()) is not None:
            waits.append(deadline_s)
        waits += [next_s for schedule in self._schedules if (next_s := schedule.next_in_s()) is not None]
        select.select([self._wake_reader], [], [], max(0.0, min(waits)))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_reader, 4096):
                pass

    def _stop(self) -> None:
        """Lets running operations end in their time, then has them clean up; what is left runs again later."""
        workers = self._intake.workers
        self._notifier.stopping(f"stopping, {len(workers.attempts)} operations to end")
        emit(
            log, logging.INFO, "daemon.stopping", f"stopping; {len(workers.attempts)} operations are given time to end"
        )
        for caretaker in workers.caretakers.values():
            caretaker.ask_to_end()
        self._await_workers(self._timing.stop_timeout_s, lambda: self._stops_asked > 1)
        for worker in workers.all():
            worker.ask_to_end()
        self._await_workers(CLEAN_UP_S, lambda: self._stops_asked > 2)
        for worker in workers.all():
            process.kill_group(worker.process.pid, worker.op_id)
        self._intake.reap(rerun=False)

    def _await_workers(self, time_s: float, give_up: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + time_s
        while self._intake.workers.all() and time.monotonic() < ends_at and not give_up():
            self._notifier.alive()
            select.select([self._wake_reader], [], [], min(1.0, max(0.0, ends_at - time.monotonic())))
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)
            self._intake.reap(rerun=False)

    def _take_lock(self) -> None:
        # A command that asks whether a daemon is there holds the lock for a moment: try for one second.
        for _ in range(LOCK_TRIES):
            if self._lock.try_acquire(f"{os.getpid()}\n"):
                return
            time.sleep(0.05)
        raise AgentError(
            f"another daemon holds {self._lock.path}", hint="`systemctl status etcd-agent` shows it; one is enough"
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def ask_to_stop(signal_number: int, frame: object) -> None:
            self._stops_asked += 1

        previous = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b".")
