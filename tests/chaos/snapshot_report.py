"""How the suite `snapshots` is told: a row for each stage and fault."""

from collections.abc import Sequence

from tests.chaos import snapshot_cases
from tests.chaos.report import Layout
from tests.chaos.verdict import Verdict

COLUMNS = (
    "stage", "fault", "runs", "met", "not met", "skipped", "asked again", "kept", "shipped", "unlisted",
    "cleaned by next", "lost", "doubled", "orphans", "broken",
)  # fmt: skip


def row_of(verdict: Verdict) -> tuple[str, str]:
    """The stage with its store where that has stages of its own, and the fault."""
    case = snapshot_cases.parse(verdict.case)
    of_both = case.stage in snapshot_cases.MOMENTS and not case.is_at_call
    return case.stage if of_both else f"{case.store}: {case.stage}", snapshot_cases.NAMES[case.fault]


def counts_of(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """The sums of some verdicts."""
    ran = [verdict for verdict in verdicts if not verdict.skipped]
    return {
        "runs": len(ran),
        "met": sum(bool(verdict.hits) for verdict in ran),
        "not met": sum(not verdict.hits for verdict in ran),
        "skipped": len(verdicts) - len(ran),
        "asked again": sum(verdict.generations > 1 for verdict in ran),
        "kept": sum(verdict.kept for verdict in ran),
        "shipped": sum(verdict.shipped for verdict in ran),
        "unlisted": sum(verdict.unlisted for verdict in ran),
        "cleaned by next": sum(verdict.follow_ups for verdict in ran),
        "lost": sum(verdict.lost for verdict in ran),
        "doubled": sum(verdict.doubled for verdict in ran),
        "orphans": sum(verdict.orphans for verdict in ran),
        "broken": sum(bool(verdict.problems) for verdict in ran),
    }


EXPLAINED = """\
Each run takes one snapshot of a real etcd on a fresh node, with a real daemon, into versitygw or a directory, while one
fault comes at one place: once, twice, or for as long as it takes. Then the fault is over, the daemon starts again, the
sender asks until it is answered, and the daemon ships by itself what was kept. All of these must hold, or the run is
*broken*:

- As soon as the operation ended, with the fault still there: every manifest's data are there, whole, by hash, unpacked;
  what was told as stored has its manifest, what was told as kept lies in the outbox.
- In the end: one result, and one manifest of the operation; what was kept at any time is stored, the very bytes;
  `snapshot list` shows what lies there, all of it good; each comes back by `snapshot download` with all its checks.
- Nothing is left: no open upload, nothing in `work/`, the outbox, the spool or half written, no process.
- No data without a manifest but where ARCHITECTURE allows it: of each attempt that was hit between the two, one.

The agent waits for less than in earnest: its back-off begins with 0.02 s, and where calls stall its patience with a
store ends after 3 s and with a call after 1 s. Disks are real small file systems; those cases need root, and are
*skipped* without.

- *not met*: the run had no such place, such as a chunk in a stream that had fewer, or the agent was past it.
- *asked again*: it ended as `failed` with a retryable error, which is right where its tool or disk failed under it.
- *unlisted*: data in the store that no manifest names, so that are no backup.
- *cleaned by next*: something was left that the next snapshot on the node removed, as it should."""

LAYOUT = Layout(
    suite="snapshots", columns=COLUMNS, row_of=row_of, counts_of=counts_of, explained=EXPLAINED,
    summed=("met", "kept", "shipped", "unlisted", "skipped", "lost", "doubled", "orphans", "broken"),
)  # fmt: skip
