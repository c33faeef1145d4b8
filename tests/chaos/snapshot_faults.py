"""The fault of a case: put around a node, met where the case says, and taken away again.

Three things come to a stop and are let go: a process of the agent at a point (tests/chaos/injection.py), etcd's tool
part-way through its file, and a call to S3 in the proxy. What is done to the node then is the same for all.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import killing
from tests.chaos.snapshot_cases import Case
from tests.chaos.snapshot_place import SnapshotNode
from tests.integration.s3_proxy import EVER, Fault, Proxy
from tests.sandbox import small_disk
from tests.sandbox.small_disk import SmallDisk

DISK_BYTES = 256 * 1024 * 1024
# Folders of a node by the name that faults have for them, which may lie on a disk of their own.
FOLDERS = {"work": "work", "outbox": "outbox", "store": "snapshots"}
VICTIMS = {"kill-worker": "worker", "kill-daemon": "daemon", "kill-etcdctl": "tool"}
# What a node has in cases of a stall: the first of these stalls it waits for, the other one not.
IMPATIENT = {"call_timeout_s": 1, "patience_s": 3.0}
SHORT_STALL_S, LONG_STALL_S = 1.0, 5.0
QUIET_S = 0.3  # with no call to the store for so long, what could be sent has been sent
QUIET_TIMEOUT_S = 5.0
TOOL_COMMANDS = {"preflight": "endpoint status", "save": "snapshot save", "verify": "snapshot status"}
CALLS = {"class": "put", "read": "get"}  # as the proxy names them, where that is another name
DENIED = (403, "AccessDenied")
STEP = "worker:step:{stage}:1:{position}"
POINTS = {
    "save@start": "worker:step:save:1:entered", "save@end": "worker:step:save:1:leaving",
    "outbox-data@begin": "worker:create:outbox:1:before", "outbox-data@mid": "worker:chunk:outbox:2:before",
    "outbox-data@synced": "worker:fsync:outbox:1:after", "outbox-data@named": "worker:rename:outbox:1:after",
    "outbox-manifest@begin": "worker:create:outbox:2:before",
    "outbox-manifest@synced": "worker:rename:outbox:2:before",
    "outbox-manifest@named": "worker:rename:outbox:2:after",
    "ship-remove@draft": "worker:unlink:outbox:1:before", "ship-remove@data": "worker:unlink:outbox:2:before",
    "ship-remove@end": "worker:unlink:outbox:2:after",
    "class@begin": "worker:create:store/coordination:1:before",
    "class@named": "worker:link:store/coordination:1:after",
    "data@begin": "worker:create:store/data:1:before", "data@mid": "worker:chunk:store/data:2:before",
    "data@synced": "worker:link:store/data:1:before", "data@named": "worker:link:store/data:1:after",
    "manifest@begin": "worker:create:store/manifest:1:before",
    "manifest@synced": "worker:link:store/manifest:1:before", "manifest@named": "worker:link:store/manifest:1:after",
}  # fmt: skip


@contextlib.contextmanager
def around(case: Case, node: SnapshotNode) -> Iterator["Faults"]:
    """What the case needs around its node, prepared but not armed. Raises NoSmallDisk where it can not be had."""
    with contextlib.ExitStack() as stack:
        disk = None
        if name := _disk_of(case):
            disk = stack.enter_context(small_disk.mounted(node.state / FOLDERS[name], DISK_BYTES))
        proxy = stack.enter_context(Proxy(node.world.s3.endpoint_url))
        made = Faults(case, node, proxy, disk)
        stack.callback(made.end)
        yield made


class Faults:
    """One case's; `hits` counts how many times its fault was met."""

    def __init__(self, case: Case, node: SnapshotNode, proxy: Proxy, disk: SmallDisk | None) -> None:
        self._case, self._node, self._proxy, self._disk = case, node, proxy, disk
        self._away = Fault("any", reply=DENIED)
        self._at_call: Fault | None = None
        self._calls_planned = 0
        self._stops = 0
        self._killed = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.problems: list[str] = []

    @property
    def settings(self) -> dict[str, object]:
        """How the node is to be set up for it: where it finds S3, and how long it waits."""
        return {"endpoint_url": self._proxy.url, **(IMPATIENT if self._case.fault == "stall" else {})}

    @property
    def hits(self) -> int:
        """How many times it was met."""
        return self._stops + (self._calls_planned - self._at_call.times if self._at_call else 0)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return self._killed

    def take_store_away(self) -> None:
        """Until `bring_store_back`."""
        self._proxy.faults.append(self._away)
        self._node.configure(is_store_away=True)

    def bring_store_back(self) -> None:
        """It takes what it is given again."""
        with contextlib.suppress(ValueError):
            self._proxy.faults.remove(self._away)
        self._node.configure(is_store_away=False)

    def arm(self) -> None:
        """From now on the fault is met by processes that are started, and calls that are made."""
        if self._case.is_at_call:
            self._arm_proxy()
            return
        if self._case.position == "tool" or (self._case.stage == "save" and self._case.position.isdigit()):
            self._arm_tool()
        else:
            self._node.plan([point_of(self._case)] * self._case.times)
        self._thread = threading.Thread(target=self._watch, name="faults")
        self._thread.start()

    def lift(self) -> None:
        """All is as it should be again, and stays so."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._node.plan(())
        (self._node.plan_folder / "disarmed").touch()
        for number in range(self._case.times):
            (self._node.plan_folder / f"go-{number}").touch()
        self._proxy.faults.clear()
        self.bring_store_back()
        if self._disk is not None:
            self._disk.mend()

    def end(self) -> None:
        """For the end of a case, however it came."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _arm_proxy(self) -> None:
        number, _, moment = self._case.position.partition("-")
        call = CALLS.get(self._case.call, self._case.call)
        is_bounded = self._case.fault in VICTIMS or self._case.repeat != "ever"
        self._calls_planned = self._case.times if is_bounded else EVER
        fault = Fault(call, after=int(number) - 1, times=self._calls_planned)
        match self._case.fault:
            case "deny":
                fault.reply = DENIED
            case "throttle":
                fault.reply = (503, "SlowDown")
            case "stall":
                fault.stalls = True
            case "reset":
                fault.resets = True
            case "lost":
                fault.loses = True
            case _:
                fault.meanwhile = self._kill
                fault.is_late = moment == "after"
                # Whose worker is dead can not be answered; another one's call goes on as if nothing had been.
                fault.resets = self._case.fault == "kill-worker" and not fault.is_late
                fault.loses = self._case.fault == "kill-worker" and fault.is_late
        self._at_call = fault
        self._proxy.faults.append(fault)
        if call == "abort":  # nothing is aborted unless something fails first
            self._proxy.faults.append(Fault("complete", reply=DENIED))

    def _arm_tool(self) -> None:
        is_part = self._case.stage == "save" and self._case.fault != "full-work"
        percent = int(self._case.position) if is_part else 0
        self._node.stop_tool(TOOL_COMMANDS[self._case.stage], percent, self._case.times)

    def _watch(self) -> None:
        """Waits for one stop after the other, does to the node what the case says, and lets go."""
        folder = self._node.plan_folder
        for number in range(self._case.times):
            while not (folder / f"fired-{number}").exists():
                if self._over.wait(0.005):
                    return
            self._stops += 1
            try:
                self._act()
            except RuntimeError as error:
                self.problems.append(str(error))
            (folder / f"go-{number}").touch()

    def _act(self) -> None:
        fault = self._case.fault
        if fault in VICTIMS:
            if self._case.stage == "verify":
                self._await_quiet()
            self._kill()
        elif fault == "stall":
            self._over.wait(SHORT_STALL_S if self._case.repeat == "once" else LONG_STALL_S)
        elif self._disk is None:
            raise RuntimeError(f"{fault} without a disk")
        elif fault == "deny":
            self._disk.refuse()
        else:
            self._disk.leave(self._room_bytes())

    def _room_bytes(self) -> int:
        """What stays free: nothing, or a part of what a snapshot needs."""
        if self._case.stage != "save":
            return 0
        database = Path(self._node.world.etcd.folder) / "member/snap/db"
        return database.stat().st_size * int(self._case.position) // 100

    def _kill(self) -> None:
        self._killed += bool(killing.kill_all(str(self._node.root), VICTIMS[self._case.fault]))

    def _await_quiet(self) -> None:
        """Until what is sent beside the verification came as far as it may, so that a kill finds it there."""
        known, since, ends_at = -1, time.monotonic(), time.monotonic() + QUIET_TIMEOUT_S
        while time.monotonic() < ends_at and not self._over.wait(0.01):
            if len(self._proxy.calls) != known:
                known, since = len(self._proxy.calls), time.monotonic()
            elif time.monotonic() - since > QUIET_S:
                return


def _disk_of(case: Case) -> str:
    """Which folder has to lie on a disk of its own."""
    if case.fault.startswith("full-"):
        return case.fault.removeprefix("full-")
    return "store" if case.fault == "deny" and case.store == "directory" else ""


def point_of(case: Case) -> str:
    """Where a process of the agent is held, for a case that is neither at a call of the store nor in a tool."""
    name = f"{case.stage.removeprefix('ship-') if case.stage != 'ship-remove' else case.stage}@{case.position}"
    return POINTS.get(name) or STEP.format(stage=case.stage, position=case.position)
