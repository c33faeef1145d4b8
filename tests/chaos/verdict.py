"""What came of a case, in either suite."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Verdict:
    """`problems` is empty when all invariants held; `skipped` says what was missing to run it.

    `crashes` counts processes that were killed, `hits` faults that were met, kills among them; `kept` and `shipped`
    snapshots that stayed on the node at first and those of them that came into the store; `failures` are the codes of
    the results that were no success.
    """

    case: str
    problems: list[str] = field(default_factory=list)
    crashes: int = 0
    outcome: str = ""
    attempts: int = 0
    generations: int = 0
    lost: int = 0
    doubled: int = 0
    orphans: int = 0
    unlisted: int = 0
    follow_ups: int = 0
    seconds: float = 0.0
    hits: int = 0
    kept: int = 0
    shipped: int = 0
    skipped: str = ""
    failures: list[str] = field(default_factory=list)


def put_away(folder: Path, verdict: Verdict, keep: Path | None) -> None:
    """Removes a case's folder; that of a broken one goes to `keep`, and its verdict says where."""
    if verdict.problems and keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, keep / folder.name)
        verdict.problems.append(f"what is left of it: {keep / folder.name}")
    else:
        shutil.rmtree(folder)
