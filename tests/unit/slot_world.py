"""A simulated cluster whose nodes decide by `domain.slots` alone: looks, claims, snapshots, crashes, a store away."""

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.domain import slots
from agent.domain.slots import Decision, Rhythm, SlotRecord, View

Window = tuple[float, float]
START_S = 1_000_000.0


def within(windows: Sequence[Window], now_s: float) -> bool:
    return any(begins_s <= now_s - START_S < begins_s + lasts_s for begins_s, lasts_s in windows)


@dataclass
class Node:
    number: int
    down: Sequence[Window] = ()
    kept: list[float] = field(default_factory=list)
    looks: int = 0


@dataclass
class Taken:
    node: int
    slot: int
    begun_s: float
    ended_s: float
    was_leader: bool


@dataclass
class World:
    """The member with the highest number leads. Whatever falls due is done in the order of time."""

    size: int
    rhythm: Rhythm
    lasts_s: float
    shared: bool = True
    down: Mapping[int, Sequence[Window]] = field(default_factory=dict)
    store_away: Sequence[Window] = ()
    read_only: Sequence[Window] = ()
    stored: list[float] = field(default_factory=list)
    record: SlotRecord | None = None
    revision: int = 0
    taken: list[Taken] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = [Node(number, self.down.get(number, ())) for number in range(1, self.size + 1)]
        self._queue: list[tuple[float, int, str, int, View | None]] = []
        for node in self.nodes:
            self._at(START_S, "look", node)

    def run(self, for_s: float) -> None:
        while self._queue and self._queue[0][0] < START_S + for_s:
            now_s, _, what, number, view = heapq.heappop(self._queue)
            node = self.nodes[number - 1]
            if what == "look":
                self._look(node, now_s)
            else:
                assert view is not None
                self._end(node, now_s, view)

    def per_slot(self) -> Counter[int]:
        return Counter(one.slot for one in self.taken)

    def longest_gap_s(self, until_s: float) -> float:
        ends = [START_S, *sorted(one.begun_s for one in self.taken), START_S + until_s]
        return max(after - before for before, after in itertools.pairwise(ends))

    def _at(self, moment_s: float, what: str, node: Node, view: View | None = None) -> None:
        heapq.heappush(self._queue, (moment_s, len(self.decisions), what, node.number, view))

    def _view(self, node: Node, now_s: float) -> View:
        away = within(self.store_away, now_s)
        record = self.record if self.shared else None
        own = node.kept if not self.shared or away else [*node.kept, *self.stored]
        newest_s = slots.newest_of(*own, slots.kept_moment_s(record, store_is_away=away), now_s=now_s)
        name = f"node-{node.number}"
        return View(
            now_s, newest_s, record, node.number, tuple(range(1, self.size + 1)), self.size,
            self.shared, slots.op_id("sim", name, record, newest_s),
        )  # fmt: skip

    def _look(self, node: Node, now_s: float) -> None:
        if within(node.down, now_s):
            self._at(now_s + 1.0, "look", node)
            return
        node.looks += 1
        view = self._view(node, now_s)
        decision = slots.decide(view, self.rhythm)
        self.decisions.append(decision)
        if not decision.act:
            self._at(now_s + decision.wait_s, "look", node)
        elif self.shared and not within(self.read_only, now_s):
            self.record = SlotRecord(
                slots.next_slot(self.record), "claimed", f"node-{node.number}", "", "", view.op_id, now_s
            )
            self._at(now_s + self.lasts_s, "end", node, replace(view, record=self.record))
        else:
            self._at(now_s + self.lasts_s, "end", node, view)

    def _end(self, node: Node, now_s: float, view: View) -> None:
        self._at(now_s, "look", node)
        if any(within(node.down, view.now_s + part * self.lasts_s / 20) for part in range(21)):
            return  # it died meanwhile
        slot = view.record.slot if view.record and view.record.state == "claimed" else slots.next_slot(view.record)
        self.taken.append(Taken(node.number, slot, view.now_s, now_s, node.number == self.size))
        away = within(self.store_away, now_s)
        (node.kept if away or not self.shared else self.stored).append(view.now_s)
        if self.record is not None and self.record.op_id == view.op_id and not within(self.read_only, now_s):
            self.record = replace_done(self.record, view.now_s, stored=not away)


def replace_done(record: SlotRecord, moment_s: float, *, stored: bool) -> SlotRecord:
    return SlotRecord(
        record.slot, "done", record.node, "", "", record.op_id, record.claimed_at_s, moment_s, "id", stored
    )
