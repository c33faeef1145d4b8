"""One case of the suite `snapshots`: take a snapshot while the fault is there, start anew, and look at what is left."""

import contextlib
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import aftermath, invariants, snapshot_cases, snapshot_faults
from tests.chaos.place import age_everything
from tests.chaos.snapshot_cases import Case
from tests.chaos.snapshot_faults import Faults
from tests.chaos.snapshot_place import SnapshotNode, Worlds
from tests.chaos.verdict import Verdict, put_away
from tests.sandbox.processes import Processes
from tests.sandbox.small_disk import NoSmallDisk

SWEPT_AFTER_S = 7200.0
SETTLE_S = 20.0  # for what the living daemon writes just now, or sweeps at its second look
SHIP_TIMEOUT_S = 60.0
ORPHANS_TIMEOUT_S = 8.0
MOST_ASKS = 4
LIVE = ("incoming", "waiting", "running")


def run(worlds: Worlds, text: str, *, sabotage: str = "", keep: Path | None = None) -> Verdict:
    """Runs a case in a fresh folder, which is gone afterwards; moved to `keep` where something was wrong."""
    case = snapshot_cases.parse(text)
    verdict = Verdict(text)
    world = worlds.of(case.size)
    started = time.monotonic()
    folder = world.folder / f"case-{hashlib.sha256(f'{text}{started}'.encode()).hexdigest()[:12]}"
    with Processes(folder / "logs") as processes:
        node = SnapshotNode(world, folder, processes, 1, case.store, sabotage=sabotage)
        try:
            with snapshot_faults.around(case, node) as faults:
                _Run(case, verdict, node, faults).go()
        except NoSmallDisk as why:
            verdict.skipped = str(why)
        except RuntimeError as error:
            verdict.problems.append(str(error).strip()[:1500])
        finally:
            node.kill_everything()
    verdict.seconds = round(time.monotonic() - started, 2)
    put_away(folder, verdict, keep)
    return verdict


class _Run:
    def __init__(self, case: Case, verdict: Verdict, node: SnapshotNode, faults: Faults) -> None:
        self._case, self._verdict, self._node, self._faults = case, verdict, node, faults
        number = hashlib.sha256(case.text.encode()).hexdigest()[:16]
        self._op_id = f"snapshot-{number}"
        self._requested_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._seen: dict[str, aftermath.Kept] = {}

    def go(self) -> None:
        """Everything of the case. Raises RuntimeError when something does not come to its end."""
        self._node.set_up(**self._faults.settings)
        if self._case.starts_without_store:
            self._faults.take_store_away()
        self._until_it_serves()
        if not self._case.is_shipping:
            self._faults.arm()
        self._take()
        if self._case.is_shipping:
            self._ship_through_faults()
        self._verdict.hits, self._verdict.crashes = self._faults.hits, self._faults.kills
        self._verdict.problems += self._faults.problems
        self._start_anew()
        self._ask_until_done()
        self._await_shipping()
        self._check_leftovers()
        self._check_end()
        self._check_store()
        self._check_processes()

    def _take(self) -> None:
        """Asks for the snapshot as long as the fault stays: so many times as the case says, until it worked."""
        for _ in range(self._case.times):
            self._ask()
            self._look()
            if aftermath.answer_of(self._node, self._op_id):
                return

    def _ship_through_faults(self) -> None:
        if not self._seen:
            raise RuntimeError("nothing was kept although the store was away")
        self._faults.bring_store_back()
        self._faults.arm()
        for _ in range(self._case.times):
            self._node.ask("outbox", "--timeout", "60")
            self._settle()
            self._look()
            if not self._node.outbox():
                return

    def _start_anew(self) -> None:
        """The fault is over and the daemon starts again, as at the node's next boot; what lies there is old by then."""
        self._faults.lift()
        self._node.stop_daemon()
        age_everything(self._node.state, SWEPT_AFTER_S)
        self._node.is_impatient = True
        self._node.configure(outbox_interval_s=1)
        self._until_it_serves()

    def _ask_until_done(self) -> None:
        """As the sender of an event does; then once more, for an answer that is the same."""
        for _ in range(MOST_ASKS):
            if answer := aftermath.answer_of(self._node, self._op_id):
                exit_code = self._ask()
                if exit_code != 0 or aftermath.answer_of(self._node, self._op_id) != answer:
                    self._verdict.problems.append(f"asked once more it exits with {exit_code}, or answers otherwise")
                return
            ends = invariants.ends_of(self._node, self._op_id)
            if ends and not ends[-1][1]["results"][-1]["error"]["retryable"]:
                self._verdict.problems.append(f"failed for good: {ends[-1][1]['results'][-1]['error']}")
                return
            self._ask()
            self._look()

    def _await_shipping(self) -> None:
        """Nobody asks for it: the daemon's own schedule has to ship what is kept."""
        self._note_kept()
        with contextlib.suppress(RuntimeError):  # what is still there is told below
            self._node.until(lambda: not self._node.outbox(), "", timeout_s=SHIP_TIMEOUT_S)
        self._settle()
        if left := self._node.outbox():
            self._verdict.problems.append(f"not shipped: {[path.name for path in left]}")

    def _check_leftovers(self) -> None:
        """The next start, or the next snapshot after it, has cleaned up."""
        self._settle()
        if left := self._staying():
            self._verdict.follow_ups += 1
            self._node.ask("snapshot", "--timeout", "60")
            self._settle()
            left = self._staying()
        self._verdict.problems += left

    def _staying(self) -> list[str]:
        """What is left over and stays: the daemon lives, so what one look finds may be a file that it is writing."""
        left: list[str] = []

        def nothing() -> bool:
            left[:] = self._left_over()
            return not left

        with contextlib.suppress(RuntimeError):
            self._node.until(nothing, "", timeout_s=SETTLE_S)
        return left

    def _left_over(self) -> list[str]:
        found = [f"left over: {path}" for path in invariants.left_over(self._node)]
        found += [f"left over: outbox/{path.name}" for path in self._node.outbox("")]
        return found + [f"upload left: {key}" for key in invariants.stored(self._node).uploads]

    def _check_end(self) -> None:
        verdict = self._verdict
        ends = invariants.ends_of(self._node, self._op_id)
        verdict.problems += invariants.problems_of_end(self._node, self._op_id)
        verdict.outcome = ends[-1][0] if ends else "lost"
        if ends:
            record = ends[-1][1]
            verdict.attempts, verdict.generations = record["results"][-1]["attempt"], record["generation"]
            verdict.failures = [result["error"]["code"] for result in record["results"] if result["error"]]

    def _check_store(self) -> None:
        verdict, found = self._verdict, invariants.stored(self._node)
        verdict.problems += invariants.problems_of_store(found)
        mine = aftermath.manifests_of(found, self._op_id)
        verdict.doubled, verdict.lost = int(len(mine) > 1), int(not mine)
        if len(mine) != 1:
            verdict.problems.append(f"{len(mine)} manifests for one operation: {sorted(mine)}")
        lost = aftermath.problems_of_kept(found, self._seen)
        verdict.problems += lost
        verdict.kept, verdict.shipped = len(self._seen), len(self._seen) - len(lost)
        verdict.unlisted = len(found.unlisted)
        most = aftermath.most_unlisted(self._case, verdict.hits, self._attempts())
        if verdict.unlisted > most:
            verdict.problems.append(f"{verdict.unlisted} data without a manifest, allowed are {most}: {found.unlisted}")
        verdict.problems += aftermath.problems_of_list(self._node, found)
        verdict.problems += aftermath.problems_of_download(self._node, found)

    def _attempts(self) -> int:
        """How many there were of any operation, over all generations."""
        lines = [json.loads(line) for line in self._node.log_file.read_text().splitlines()]
        return sum(line["event"] == "operation.started" for line in lines)

    def _check_processes(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._node.until(lambda: not invariants.orphans_beside(self._node), "", timeout_s=ORPHANS_TIMEOUT_S)
        self._node.stop_daemon()
        found = invariants.orphans(self._node)
        self._verdict.orphans = len(found)
        self._verdict.problems += [f"orphan: {argv}" for argv in found]

    def _ask(self) -> int:
        words = ["--op-id", self._op_id, "--requested-at", self._requested_at, "--timeout", "60"]
        exit_code, _ = self._node.ask("snapshot", *words)
        self._settle()
        return exit_code

    def _look(self) -> None:
        """At once, with the fault still there."""
        self._note_kept()
        self._verdict.problems += aftermath.problems_at_once(self._node, self._op_id)

    def _note_kept(self) -> None:
        self._seen |= {one.snapshot_id: one for one in aftermath.kept(self._node)}

    def _settle(self) -> None:
        def is_quiet() -> bool:
            names = [path.name for state in LIVE for path in self._node.spool(state)]
            return all(name.endswith(".tmp") for name in names)

        self._node.until(is_quiet, "an operation does not end")

    def _until_it_serves(self) -> None:
        def serves() -> bool:
            node = self._node
            has_log = node.daemon is not None and node.log_file.exists()
            return has_log and f'"pid": {node.daemon.pid}' in node.log_file.read_text()  # type: ignore[union-attr]

        self._node.until(serves, "the daemon does not serve")
