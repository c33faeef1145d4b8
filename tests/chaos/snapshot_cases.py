"""The cases of the suite `snapshots`, as text that says all of a case, and which of them belong to a seed.

`STORE SIZE STAGE@POSITION FAULT REPEAT`, such as `s3 large part@2 reset twice`: the second part that is sent is reset
half-way, and so is the one after it. A stage's positions are a moment in it, a percentage of the file, or the number of
the call; a kill at a call of the store also says whether the store did it (`-after`) or not (`-before`).
"""

import random
import re
from dataclasses import dataclass
from typing import TypeAlias

STORES = ("s3", "directory")
SIZES = ("small", "middle", "large")  # of one, two and three parts in S3
REPEATS = ("once", "twice", "ever")
CASES_PER_SEED = 4
KILLS = ("kill-worker", "kill-daemon")
OF_STORE = ("deny", "throttle", "stall", "reset", "lost")  # 403, 503, no answer, cut on its way, answer cut
NAMES = {
    "kill-worker": "kill -9 of worker", "kill-daemon": "kill -9 of daemon", "kill-etcdctl": "kill -9 of etcd's tool",
    "full-work": "full disk: work", "full-outbox": "full disk: outbox", "full-store": "full disk: directory store",
    "deny": "denied", "throttle": "throttled", "stall": "stalled", "reset": "reset", "lost": "answer lost",
}  # fmt: skip
# By S3's calls: how many of them there are in one operation, more or less.
CALLS = {"class": 4, "create": 1, "part": 3, "complete": 1, "head": 1, "manifest": 1, "read": 2, "abort": 1}
SHIPPING_CALLS = {"list": 8, **{call: number for call, number in CALLS.items() if call != "abort"}}
Faults: TypeAlias = dict[str, tuple[str, ...]]  # positions by fault
MOMENTS: dict[str, Faults] = {
    "preflight": {
        **dict.fromkeys(KILLS, ("before", "entered", "leaving")), "kill-etcdctl": ("tool",), "full-work": ("entered",),
    },
    "save": {
        **dict.fromkeys(KILLS, ("start", "25", "50", "75", "end")), "kill-etcdctl": ("0", "25", "50", "75", "99"),
        "full-work": ("0", "50", "90"),
    },
    "verify": {
        **dict.fromkeys(KILLS, ("entered", "tool", "leaving")), "kill-etcdctl": ("tool",), "full-work": ("entered",),
    },
    "outbox-data": {
        **dict.fromkeys(KILLS, ("begin", "mid", "synced", "named")), "full-outbox": ("begin", "mid", "synced"),
    },
    "outbox-manifest": {**dict.fromkeys(KILLS, ("begin", "synced", "named")), "full-outbox": ("begin",)},
    "ship-remove": dict.fromkeys(KILLS, ("draft", "data", "end")),
}  # fmt: skip
IN_FOLDER: dict[str, Faults] = {
    "class": dict.fromkeys(KILLS, ("begin", "named")),
    "data": {
        **dict.fromkeys((*KILLS, "stall"), ("begin", "mid", "synced", "named")),
        "full-store": ("begin", "mid", "synced"), "deny": ("begin", "synced"),
    },
    "manifest": {
        **dict.fromkeys((*KILLS, "stall"), ("begin", "synced", "named")),
        "full-store": ("begin", "synced"), "deny": ("begin", "synced"),
    },
}  # fmt: skip
PATTERN = re.compile(r"(\S+) (\S+) ([a-z-]+)@([a-z0-9-]+) (\S+) (\S+)")


@dataclass(frozen=True)
class Case:
    """One run: a store, the size of the database, where the fault comes, which, and how many times."""

    text: str
    store: str
    size: str
    stage: str
    position: str
    fault: str
    repeat: str

    @property
    def times(self) -> int:
        """How many times a process is killed or held, or a disk filled."""
        return REPEATS.index(self.repeat) + 1

    @property
    def is_shipping(self) -> bool:
        """Whether the fault comes when a kept snapshot is shipped, not when it is taken."""
        return self.stage.startswith("ship-")

    @property
    def starts_without_store(self) -> bool:
        """Whether the store is away at first, so that the snapshot goes to the outbox."""
        return self.is_shipping or self.stage.startswith("outbox-")

    @property
    def call(self) -> str:
        """The call of the store that it is about, without `ship-`; the stage where it is none."""
        return "list" if self.stage == "preflight" else self.stage.removeprefix("ship-")

    @property
    def is_at_call(self) -> bool:
        """Whether the fault comes with a call to S3, and not at a place in the agent or its tool."""
        return self.store == "s3" and self.position[0].isdigit() and self.stage != "save"


def stages(store: str) -> dict[str, Faults]:
    """Positions by stage and fault."""
    if store == "directory":
        shipping = {f"ship-{name}": faults for name, faults in IN_FOLDER.items()}
        return {**MOMENTS, **IN_FOLDER, **shipping}
    calls = {**CALLS, **{f"ship-{call}": number for call, number in SHIPPING_CALLS.items()}}
    found = {**MOMENTS, **{stage: _faults_of_call(number) for stage, number in calls.items()}}
    look = {fault: _numbers(SHIPPING_CALLS["list"]) for fault in OF_STORE}
    return {**found, "preflight": {**MOMENTS["preflight"], **look}}


def _faults_of_call(number: int) -> Faults:
    moments = tuple(f"{one}-{moment}" for one in _numbers(number) for moment in ("before", "after"))
    return {**dict.fromkeys(OF_STORE, _numbers(number)), **dict.fromkeys(KILLS, moments)}


def _numbers(number: int) -> tuple[str, ...]:
    return tuple(str(one) for one in range(1, number + 1))


def combinations() -> list[tuple[str, str, str]]:
    """Every store, stage and fault that go together."""
    return [(store, stage, fault) for store in STORES for stage, faults in stages(store).items() for fault in faults]


def parse(text: str) -> Case:
    """Reads a case. Raises ValueError."""
    found = PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no case")
    store, size, stage, position, fault, repeat = found.groups()
    known = stages(store).get(stage, {}).get(fault, ()) if store in STORES else ()
    if position not in known or size not in _sizes(stage, position) or repeat not in REPEATS:
        raise ValueError(f"{text!r} is no case")
    return Case(text, store, size, stage, position, fault, repeat)


def of_seed(seed: int) -> list[str]:
    """The cases of a seed: the combinations are dealt out, the seed picks size, position and repeat."""
    dealt = combinations()
    random.Random(1).shuffle(dealt)
    first = (seed - 1) * CASES_PER_SEED
    return [_made(seed, *dealt[number % len(dealt)]) for number in range(first, first + CASES_PER_SEED)]


def _made(seed: int, store: str, stage: str, fault: str) -> str:
    chance = random.Random(f"{seed} {store} {stage} {fault}")
    position = chance.choice(stages(store)[stage][fault])
    return f"{store} {chance.choice(_sizes(stage, position))} {stage}@{position} {fault} {chance.choice(REPEATS)}"


def _sizes(stage: str, position: str) -> tuple[str, ...]:
    """Those that have so many parts."""
    return SIZES[int(position[0]) - 1 :] if stage.endswith("part") else SIZES
