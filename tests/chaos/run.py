"""One case from its text to its verdict: prepare, deliver, let it settle, ask again, look at what is left."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import cases, flood, invariants, killing
from tests.chaos.cases import Case
from tests.chaos.deliveries import Answers, Asked, Post, deliver, output_of
from tests.chaos.place import Node, World, age_everything
from tests.chaos.verdict import Verdict, put_away
from tests.sandbox.processes import Processes

SWEPT_AFTER_S = 7200.0
SECOND_LOOK_TIMEOUT_S = 15.0
MOST_ASKS = 4
HOLD_WHERE_IT_CAN_BE_CANCELLED = {"point": "worker:step:preflight:1:entered", "victim": "hold"}
HOLD_WHERE_THE_CLASS_IS_CHOSEN = {"point": "worker:s3:create_multipart_upload:1:before", "victim": "hold"}


def run(world: World, text: str, *, sabotage: str = "", keep: Path | None = None) -> Verdict:
    """Runs a case in a fresh folder, which is gone afterwards; moved to `keep` where something was wrong."""
    case = cases.parse(text)
    verdict = Verdict(text)
    started = time.monotonic()
    folder = world.folder / f"case-{hashlib.sha256(f'{text}{started}'.encode()).hexdigest()[:12]}"
    with Processes(folder / "logs") as processes:
        nodes = _nodes(case, world, folder, processes, sabotage)
        post = Post(case, folder, nodes)
        try:
            _Run(case, verdict, nodes, post).go()
        except RuntimeError as error:
            verdict.problems.append(str(error).strip()[:1500])
        finally:
            post.close()
            for node in nodes:
                node.kill_everything()
    verdict.seconds = round(time.monotonic() - started, 2)
    put_away(folder, verdict, keep)
    return verdict


def record(world: World, store: str, way: str = "submit") -> list[str]:
    """The points that a clean run passes with that store and in that way, in their order."""
    folder = world.folder / f"record-{store}-{way}"
    case = cases.parse(f"{store} {way}")
    with Processes(folder / "logs") as processes:
        (node,) = _nodes(case, world, folder, processes, "", record=True)
        post = Post(case, folder, [node])
        verdict = Verdict(case.text)
        _Run(case, verdict, [node], post).go()
        post.close()
        if verdict.problems:
            raise RuntimeError(f"a run without any fault is not clean: {verdict.problems}")
        return node.points()


def _nodes(
    case: Case, world: World, folder: Path, processes: Processes, sabotage: str, *, record: bool = False
) -> list[Node]:
    first = Node(world, folder, processes, 1, case.store, sabotage=sabotage)
    holds = {"class-race": HOLD_WHERE_THE_CLASS_IS_CHOSEN, "cancel": HOLD_WHERE_IT_CAN_BE_CANCELLED}
    points = [holds[case.way]] if case.way in holds else []
    first.prepare(
        [*points, *case.at_points], tool_kill=case.tool_kill, parks=case.way in ("parked", "cancel-parked"),
        record=record,
    )  # fmt: skip
    if case.way not in (*cases.WAYS_OF_TWO_NODES, "other-cluster"):
        return [first]
    cluster = "another" if case.way == "other-cluster" else first.cluster
    second = Node(world, folder, processes, 2, case.store, cluster=cluster, sabotage=sabotage)
    second.prepare()
    return [first, second]


class _Run:
    def __init__(self, case: Case, verdict: Verdict, nodes: list[Node], post: Post) -> None:
        self._case, self._verdict, self._nodes, self._post = case, verdict, nodes, post
        self._node = nodes[0]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        number = hashlib.sha256(case.text.encode()).hexdigest()[:16]
        self._asked = Asked(f"snapshot-{number}", now)
        self._also = Asked(f"snapshot-also-{number[:11]}", now)
        self._answers = Answers()
        self._from_outside = 0

    def go(self) -> None:
        """Everything of the case. Raises RuntimeError when something does not come to its end."""
        for node in self._nodes:
            node.until(lambda node=node: _serves(node), "the daemon does not serve")  # type: ignore[misc]
        if self._case.way == "flood":
            self._flood()
            return
        with self._instants():
            deliver(self._case, self._post, self._nodes, self._asked, self._also, self._answers)
        self._settle()
        self._check_not_lost()
        self._verdict.crashes = self._from_outside + sum(node.fired() for node in self._nodes)
        if self._case.way in ("class-race", "cancel"):
            self._verdict.crashes -= 1  # held, not killed
        if self._was_cancelled():
            self._check_cancelled()
        else:
            self._ask_until_done()
            self._check_ends()
        self._check_leftovers()
        self._check_processes()
        self._check_stores()

    def _flood(self) -> None:
        ends_at = time.monotonic() + max([0, *(one.at_ms for one in self._case.injections)]) / 1000
        with self._instants():
            taken = flood.fill(self._node, self._asked.op_id[-8:], ends_at)
        self._verdict.problems += flood.problems(self._node, taken)
        self._verdict.crashes = self._from_outside
        self._verdict.lost = sum(problem.startswith("lost: ") for problem in self._verdict.problems)
        self._verdict.outcome = "done"
        self._check_processes()
        self._verdict.problems += invariants.problems_of_store(invariants.stored(self._node))

    @contextlib.contextmanager
    def _instants(self) -> Iterator[None]:
        """Kills from outside, at their times after now."""
        plan = [one for one in self._case.injections if one.at_ms >= 0]
        over = threading.Event()
        started = time.monotonic()

        def kill() -> None:
            for one in plan:
                if over.wait(max(0.0, started + one.at_ms / 1000 - time.monotonic())):
                    return
                if one.victim == "stop":
                    self._from_outside += killing.stop(str(self._node.root))
                else:
                    self._from_outside += bool(killing.kill_all(str(self._node.root), one.victim))

        thread = threading.Thread(target=kill, name="kills")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _settle(self) -> None:
        """Until nothing is under way on any node."""
        for node in self._nodes:

            def is_quiet(node: Node = node) -> bool:
                return not any(node.spool(state) for state in ("incoming", "waiting", "running") if _whole(node, state))

            node.until(is_quiet, "an operation does not end")

    def _check_not_lost(self) -> None:
        """What was handed over durably, or taken by the daemon, has an end before anybody asks again."""
        lines = [json.loads(line) for line in self._node.log_file.read_text().splitlines()]
        events = {line["event"] for line in lines if line.get("op_id") == self._asked.op_id}
        known = events & {"request.submitted", "request.accepted"}
        if known and not invariants.ends_of(self._node, self._asked.op_id):
            self._verdict.lost = 1
            self._verdict.problems.append(f"lost: the log has {sorted(known)}, and it has no end")

    def _was_cancelled(self) -> bool:
        ends = invariants.ends_of(self._node, self._asked.op_id)
        is_cancelled = bool(ends) and (ends[-1][1]["results"][-1]["error"] or {}).get("code") == "cancelled"
        if self._answers.cancelled and not is_cancelled:
            self._verdict.problems.append(f"ops cancel said that it is cancelled; its ends: {ends}")
        return is_cancelled

    def _check_cancelled(self) -> None:
        """It ended as that, once, without a backup, and the same op id does not start it again."""
        self._verdict.outcome = "cancelled"
        for _ in range(2):
            self._verdict.problems += invariants.problems_of_end(self._node, self._asked.op_id)
            self._ask()
            self._settle()
            if self._answers.outcomes[-1] != "exit 1" or not self._was_cancelled():
                self._verdict.problems.append(f"cancelled, and asked again it answers {self._answers.outcomes}")

    def _ask_until_done(self) -> None:
        """Asks again as the sender of an event would, until it succeeded; then once more, for the same answer."""
        for _ in range(MOST_ASKS):
            ends = invariants.ends_of(self._node, self._asked.op_id)
            if ends and ends[-1][0] == "done":
                break
            if ends and not ends[-1][1]["results"][-1]["error"]["retryable"] and ends[-1][0] == "failed":
                self._verdict.problems.append(f"failed for good: {ends[-1][1]['results'][-1]['error']}")
                break
            self._ask()
            self._settle()
        for node in self._nodes if self._case.way in ("two-nodes", "late-elsewhere", "class-race") else [self._node]:
            self._ask(node)

    def _ask(self, node: Node | None = None) -> None:
        node = node or self._node
        child = node.submit("--op-id", self._asked.op_id, "--requested-at", self._asked.requested_at, "--timeout", "60")
        node.until(lambda: not child.is_running(), "submit does not end")
        self._answers.add(f"exit {child.process.returncode}", output_of(child))

    def _check_ends(self) -> None:
        verdict = self._verdict
        ends = invariants.ends_of(self._node, self._asked.op_id)
        verdict.problems += invariants.problems_of_end(self._node, self._asked.op_id)
        verdict.lost = max(verdict.lost, int(not ends))
        verdict.outcome = ends[-1][0] if ends else "lost"
        if ends:
            last = ends[-1][1]["results"][-1]
            verdict.attempts = last["attempt"]
            verdict.generations = ends[-1][1]["generation"]
        told = {
            json.dumps(document["result"]["output"] | {"already": True}, sort_keys=True)
            for document in self._answers.documents
            if document["op_id"] == self._asked.op_id and document["state"] == "done"
        }
        if len(told) != 1:
            verdict.problems.append(f"the askers were told {sorted(told)}: {self._answers.outcomes}")
        if self._answers.outcomes[-1] != "exit 0":
            verdict.problems.append(f"asked once more it answers {self._answers.outcomes}")

    def _check_leftovers(self) -> None:
        """After the daemon's next start, and where needed the next snapshot, which clean up."""
        for node in self._nodes:
            if _half_written(node):
                node.stop_daemon()
                age_everything(node.state, SWEPT_AFTER_S)
                node.is_impatient = True  # the daemon's second look comes 90 s after its start, and its files lie 60 s
                node.until(lambda node=node: _serves(node), "the daemon does not serve")  # type: ignore[misc]
                with contextlib.suppress(RuntimeError):  # of what is still there it is told below
                    node.until(lambda node=node: not _half_written(node), "", timeout_s=SECOND_LOOK_TIMEOUT_S)  # type: ignore[misc]
        for node in self._nodes:
            age_everything(node.state / "snapshots", SWEPT_AFTER_S)
            if invariants.left_over(node) or invariants.stored(node).uploads:
                self._verdict.follow_ups += 1
                child = node.submit("--timeout", "60")
                node.until(lambda child=child: not child.is_running(), "submit does not end")  # type: ignore[misc]
                self._settle()
            self._verdict.problems += [f"left over: {path}" for path in invariants.left_over(node)]
            self._verdict.problems += [f"upload left: {key}" for key in invariants.stored(node).uploads]

    def _check_processes(self) -> None:
        for node in self._nodes:
            with contextlib.suppress(RuntimeError):
                node.until(lambda node=node: not invariants.orphans_beside(node), "", timeout_s=3.0)  # type: ignore[misc]
            node.stop_daemon()
            found = invariants.orphans(node)
            self._verdict.orphans += len(found)
            self._verdict.problems += [f"orphan: {argv}" for argv in found]

    def _check_stores(self) -> None:
        verdict = self._verdict
        shared = self._case.store == "s3"
        for node in self._nodes[:1] if shared else self._nodes:
            found = invariants.stored(node)
            verdict.problems += invariants.problems_of_store(found)
            verdict.unlisted += len(found.unlisted)
        mine = [key for key, one in invariants.stored(self._node).manifests.items()
                if one["op_id"] == self._asked.op_id and one["cluster"] == self._node.cluster]  # fmt: skip
        if len(mine) != int(verdict.outcome != "cancelled"):
            verdict.problems.append(f"{len(mine)} manifests for one operation: {mine}")
            verdict.doubled, verdict.lost = int(len(mine) > 1), int(not mine)
        # A second node can not take back what it stored before it saw the first one's manifest.
        allowed = verdict.crashes + (1 if len(self._nodes) > 1 else 0)
        if verdict.unlisted > allowed:
            verdict.problems.append(f"{verdict.unlisted} unlisted objects after {verdict.crashes} crashes")


def _half_written(node: Node) -> list[str]:
    """Unfinished writes in the spool, which the daemon removes."""
    return [path for path in invariants.left_over(node) if path.startswith("spool/") and path.endswith(".tmp")]


def _whole(node: Node, state: str) -> bool:
    return any(not path.name.endswith(".tmp") for path in node.spool(state))


def _serves(node: Node) -> bool:
    """Whether the daemon that was started last does."""
    if node.daemon is None or not node.log_file.exists():
        return False
    return f'"pid": {node.daemon.pid}' in node.log_file.read_text()
