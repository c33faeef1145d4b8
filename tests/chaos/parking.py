"""Makes snapshots park: no rule of theirs waits for the cluster, and the first operations that do are still to come."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MARK = "park"  # a file of the plan's folder: as many bytes as times to say no
RULE = "chaos-waits"


def patches(plan_folder: Path) -> dict[str, Callable[[ModuleType], None]]:
    """What to change in which module after its import; nothing where the plan has no mark."""
    mark = plan_folder / MARK
    return {"agent.bootstrap": lambda module: _park_first(module, mark)} if mark.exists() else {}


def _park_first(module: Any, mark: Path) -> None:
    original = module.make_worker

    def make_worker(node: Any) -> Any:
        worker = original(node)
        snapshot = worker.operations["snapshot"]

        def run(job: Any, steps: Any) -> Any:
            ask(job, steps)
            return snapshot.run(job, steps)

        def ask(job: Any, steps: Any) -> None:
            """Says no so many times, then yes for ever: over all processes, by the length of a file."""
            from agent.errors import Parked

            if left := mark.read_bytes():
                mark.write_bytes(left[1:])
                raise Parked("the cluster is to be waited for", rule=RULE, hint="wait")

        changed = dataclasses.replace(snapshot, run=run, recheck=ask)
        return dataclasses.replace(worker, operations={**worker.operations, "snapshot": changed})

    module.make_worker = make_worker
