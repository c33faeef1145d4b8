"""How the suite `requests` is told: a row for each fault and place."""

from collections.abc import Sequence

from tests.chaos import cases
from tests.chaos.report import Layout
from tests.chaos.verdict import Verdict

COLUMNS = (
    "fault", "place", "runs", "crashes", "done", "cancelled", "asked again", "not reached", "lost", "doubled",
    "orphans", "unlisted", "cleaned by next", "broken",
)  # fmt: skip
VICTIMS = {"node": "kill -9 of all", "stop": "SIGTERM to daemon"}


def row_of(verdict: Verdict) -> tuple[str, str]:
    """The fault and the place that a case belongs to."""
    case = cases.parse(verdict.case)
    if not case.injections:
        return "delivery", next((way for way in ("cancelled", "cancel") if case.way.startswith(f"{way}-")), case.way)
    if case.tool_kill and case.tool_kill[1] == "hang":
        return "kill -9 of worker", "while its tool hangs"
    if case.way == "flood":
        return "several", "in a flood of 1,000 requests"
    if len(case.injections) > 1:
        return "several", f"{len(case.injections)} faults"
    injection = case.injections[0]
    if injection.tool is not None:
        moment = injection.tool[1]
        return "kill -9 of etcdctl or etcdutl", "part of a file" if moment.startswith("at-") else f"{moment} its work"
    if injection.at_ms >= 0:
        return VICTIMS.get(injection.victim, f"kill -9 of {injection.victim}"), "any instant"
    role, kind, place, _, _ = injection.point.split(":")
    victim = role if injection.victim == "self" else injection.victim
    at = f"{kind} {place}" if kind in ("step", "s3") else f"{kind} {place.partition('.')[0]}"
    return VICTIMS.get(victim, f"kill -9 of {victim}"), f"{role}: {at}"


def counts_of(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """The sums of some verdicts."""
    return {
        "runs": len(verdicts),
        "crashes": sum(verdict.crashes for verdict in verdicts),
        "done": sum(verdict.outcome == "done" for verdict in verdicts),
        "cancelled": sum(verdict.outcome == "cancelled" for verdict in verdicts),
        "asked again": sum(verdict.generations > 1 for verdict in verdicts),
        "not reached": sum(bool(cases.parse(verdict.case).injections) and not verdict.crashes for verdict in verdicts),
        "lost": sum(verdict.lost for verdict in verdicts),
        "doubled": sum(verdict.doubled for verdict in verdicts),
        "orphans": sum(verdict.orphans for verdict in verdicts),
        "unlisted": sum(verdict.unlisted for verdict in verdicts),
        "cleaned by next": sum(verdict.follow_ups for verdict in verdicts),
        "broken": sum(bool(verdict.problems) for verdict in verdicts),
    }


EXPLAINED = """\
Each run is one request in a fresh node: a real daemon, real workers, a real etcd, a store. One or several faults hit
it, a dead daemon is started again as systemd does, the sender asks until it is answered. Then all of these must hold,
or the run is *broken*: one final result and one manifest for the operation; its data there, unpacked and compared;
every asker told the same; nothing left in `work/`, in the spool or half written, no open upload, no process.

The points of a clean run make a matrix that the seeds 1-100 share out, each case to one of them; every seed adds four
cases of its own that chance makes.

- *crashes*: processes that were killed or stopped. *not reached*: what was to be hit had ended before, or did not come.
- *asked again*: it ended as `failed` with a retryable error, which is right where its tool was killed under it.
- *unlisted*: data in the store that no manifest names, so that are no backup: of an attempt that died between the two,
  or, without a crash, of the second of two nodes at the same operation. At most one for each crash and second node.
- *cleaned by next*: something was left that the next snapshot on the node removed, as it should."""

LAYOUT = Layout(
    suite="requests", columns=COLUMNS, row_of=row_of, counts_of=counts_of, explained=EXPLAINED,
    summed=("crashes", "lost", "doubled", "orphans", "unlisted", "broken"),
)  # fmt: skip
