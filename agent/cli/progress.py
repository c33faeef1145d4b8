"""How far an operation is, live on a terminal's stderr and silent elsewhere."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli import tables
from agent.cli.asking import QUEUED
from agent.cli.operation_views import progress_text
from agent.cli.waiting import OnProgress


@contextlib.contextmanager
def shown(operation: str) -> Iterator[OnProgress]:
    """Yields what is to be called with each progress; the display is gone when the block ends."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    display = Progress(
        SpinnerColumn(), BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}", markup=False),
        console=tables.console(stderr=True), transient=True,
    )  # fmt: skip
    with display:
        task = display.add_task(f"{operation}: {QUEUED}", total=None)

        def show(progress: Mapping[str, Any]) -> None:
            display.update(
                task, description=f"{operation}: {tables.printable(progress_text(progress))}",
                completed=_count(progress, "bytes") or 0, total=_count(progress, "total_bytes"),
            )  # fmt: skip

        yield show


def _count(progress: Mapping[str, Any], name: str) -> int | None:
    value = progress.get(name)
    return value if isinstance(value, int) else None
