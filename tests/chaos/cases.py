"""Which cases there are, as text that says all of a case, and which of them belong to a seed.

`STORE DELIVERY [INJECTION …]`, such as `s3 twice/old worker:link:store/manifest:1:before>self at-350>worker`.
An injection is one of
  ROLE:KIND:PLACE:NUMBER:MOMENT>VICTIM   at a point in a process (tests/chaos/injection.py)
  tool:NUMBER:MOMENT                     that call of etcdctl or etcdutl dies (before, after, at-N percent) or hangs
  at-MS>VICTIM                           from outside, so long after the first delivery
and a VICTIM is self, worker, daemon, tool, submit, cancel, node (all at once, as in a power cut) or stop (SIGTERM).
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

STORES = ("directory", "s3")
WAYS_OF_ENDING_OTHERWISE = ("parked", "cancel", "cancel-parked")  # each with points of its own
AGENTS = ("old", "new", "new-replacing")
MATRIX_SEEDS = 100  # so many seeds share the whole matrix
CHANCES_PER_SEED = 4
LONGEST_RUN_MS = 1200
WAYS = ("once", "lost", "late", "twice", "five", "cut", "reordered", "other-content", "other-cluster", "no-wait")
WAYS_OF_TWO_NODES = ("two-nodes", "late-elsewhere", "class-race")  # with one store for both
FLOODS, KILLS_IN_A_FLOOD, FLOOD_MS = 3, 8, 10_000
CANCELLED_AT_MS = (0, 60, 120, 250, 500, 900)
INSTANT_VICTIMS = ("worker", "daemon", "tool", "submit", "node", "stop")
PARTS_OF_FILE = ("at-0", "at-1", "at-25", "at-50", "at-75", "at-99")
POINTS_FOR_SURE = 2  # the further ones depend on the time that things take
PATTERN = re.compile(
    r"(directory|s3) (submit|flood|parked|cancel|cancel-parked|cancel-\d+|[a-z0-9-]+/(?:old|new|new-replacing))"
    r"(?: (?:[a-z]+(?::[a-z0-9_./-]+){4}>[a-z]+|tool:\d+:(?:before|after|hang|at-\d+)|at-\d+>[a-z]+))*"
)


@dataclass(frozen=True)
class Injection:
    """One fault; which of the three forms it has shows by what is set."""

    text: str
    point: str = ""
    at_ms: int = -1
    tool: tuple[int, str] | None = None
    victim: str = "tool"


@dataclass(frozen=True)
class Case:
    """One run: how the request comes, what happens to the agent, and where backups go."""

    text: str
    store: str
    way: str
    agent: str
    injections: tuple[Injection, ...]

    @property
    def at_points(self) -> list[dict[str, str]]:
        """The injections that the agent's processes do to themselves."""
        return [{"point": one.point, "victim": one.victim} for one in self.injections if one.point]

    @property
    def tool_kill(self) -> tuple[int, str] | None:
        """The call of a tool that dies, and when."""
        return next((one.tool for one in self.injections if one.tool), None)


def parse(text: str) -> Case:
    """Reads a case. Raises ValueError."""
    if not PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is no case")
    store, delivery, *injections = text.split()
    way, _, agent = delivery.partition("/")
    return Case(text, store, way, agent, tuple(map(_injection, injections)))


def _injection(text: str) -> Injection:
    point, _, victim = text.partition(">")
    if point.startswith("tool:"):
        _, number, moment = point.split(":")
        return Injection(text, tool=(int(number), moment))
    if point.startswith("at-"):
        return Injection(text, at_ms=int(point.removeprefix("at-")), victim=victim)
    return Injection(text, point=point, victim=victim)


def matrix(points: Mapping[str, Sequence[str]]) -> list[str]:
    """Every case that is not left to chance, by the points that clean runs passed: with each store, and parked and

    cancelled with the directory."""
    cases = [*(case for store in STORES for case in _deliveries(store)), *_beyond(points)]
    cases += [f"directory flood {' '.join(_kills_in_a_flood(random.Random(number)))}" for number in range(FLOODS)]
    for store in STORES:
        for point in dict.fromkeys(points[store]):
            if not _depends_on_time(point):
                cases += [f"{store} {_way_for(point, victim)} {point}>{victim}" for victim in _victims(point)]
        calls = [point for point in points[store] if ":spawn:etcd" in point and point.endswith(":before")]
        for number, call in enumerate(calls, 1):
            moments = ["before", "after", *(PARTS_OF_FILE if "snapshot-save" in call else ())]
            cases += [f"{store} submit tool:{number}:{moment}" for moment in moments]
            # The worker dies while its tool hangs: what is left of the attempt must be gone before the next one.
            cases.append(f"{store} submit tool:{number}:hang {call.removesuffix('before')}after>self")
    return cases


def of_seed(seed: int, all_cases: Sequence[str]) -> list[str]:
    """The cases of a seed: its share of the matrix, then some that chance makes. The same for the same matrix."""
    dealt = list(all_cases)
    random.Random(1).shuffle(dealt)
    return [*dealt[(seed - 1) % MATRIX_SEEDS :: MATRIX_SEEDS], *_by_chance(random.Random(seed), dealt)]


def _beyond(points: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What parked and cancelled operations pass beyond the points of all others; `points` by their way."""
    known = set(points["directory"])
    for way in WAYS_OF_ENDING_OTHERWISE:
        for point in dict.fromkeys(points[way]):
            if point not in known and not _depends_on_time(point):
                yield from (f"directory {way} {point}>{victim}" for victim in ("self", "node"))
            known.add(point)
    yield from (f"{store} cancel-{ms}" for ms in CANCELLED_AT_MS for store in STORES)
    yield from (f"directory cancel-{ms} at-{ms + 40}>{victim}" for ms in CANCELLED_AT_MS for victim in INSTANT_VICTIMS)


def _deliveries(store: str) -> Iterator[str]:
    ways = [*WAYS, *(f"cancelled-{ms}" for ms in CANCELLED_AT_MS), *(WAYS_OF_TWO_NODES if store == "s3" else ())]
    for way in ways:
        yield from (f"{store} {way}/{agent}" for agent in AGENTS)


def _depends_on_time(point: str) -> bool:
    _, _, place, number, _ = point.split(":")
    return place in ("spool/progress", "locks") and int(number) > POINTS_FOR_SURE


def _victims(point: str) -> list[str]:
    """Who dies at a point: the process itself always; the daemon, or the node, where a worker is in its midst."""
    role, kind, _, _, moment = point.split(":")
    if role == "worker" and (kind == "step" or moment == "before"):
        return ["self", "daemon", "node", *(["stop"] if kind in ("step", "spawn", "s3") else [])]
    return ["self"]


def _way_for(point: str, victim: str) -> str:
    """A delivery that fits and is always the same one: most by `submit`, the others by the three kinds of SSM agent."""
    chance = random.Random(f"{point}>{victim}")
    return chance.choice(["submit", "submit", "submit", *(f"once/{agent}" for agent in AGENTS)])


def _by_chance(chance: random.Random, all_cases: Sequence[str]) -> Iterator[str]:
    at_points = [case for case in all_cases if ">" in case and case.split()[1].startswith(("submit", "once/"))]
    for number in range(CHANCES_PER_SEED):
        store = chance.choice(STORES)
        way = chance.choice([*WAYS, "submit", "submit", f"cancelled-{chance.randrange(LONGEST_RUN_MS)}"])
        delivery = way if way == "submit" else f"{way}/{chance.choice(AGENTS)}"
        fitting = [case.split()[-1] for case in at_points if case.startswith(store)]
        if number == 0:  # one instant
            faults = [_instant(chance)]
        elif number == 1:  # two of them, so that the recovery is hit as well
            faults = sorted((_instant(chance), _instant(chance)), key=lambda text: int(text[3:].partition(">")[0]))
        elif number == 2:  # a point, and another one in what follows
            faults = [chance.choice(fitting), chance.choice(fitting)]
        else:  # the same point in every attempt
            faults = [chance.choice([text for text in fitting if text.startswith("worker:")])] * 3
        yield f"{store} {delivery} {' '.join(faults)}"


def _kills_in_a_flood(chance: random.Random) -> list[str]:
    """Daemons, workers and the whole node, one every second or so."""
    moments = sorted(chance.randrange(FLOOD_MS) for _ in range(KILLS_IN_A_FLOOD))
    return [f"at-{at_ms}>{chance.choice(['daemon', 'daemon', 'worker', 'node', 'stop'])}" for at_ms in moments]


def _instant(chance: random.Random) -> str:
    return f"at-{chance.randrange(LONGEST_RUN_MS)}>{chance.choice(INSTANT_VICTIMS)}"
