"""How far an operation is, live on a terminal's stderr and silent elsewhere."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli import tables
from agent.cli.asking import QUEUED
from agent.cli.waiting import OnProgress


@contextlib.contextmanager
def shown(operation: str) -> Iterator[OnProgress]:
    """Yields what is to be called with each progress; the display is gone when the block ends."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    display = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), DownloadColumn(),
        TimeElapsedColumn(), console=tables.console(stderr=True), transient=True,
    )  # fmt: skip
    with display:
        task = display.add_task(f"{operation}: {QUEUED}", total=None)

        def show(progress: Mapping[str, Any]) -> None:
            step = tables.printable(str(progress.get("step", QUEUED)))
            display.update(
                task, description=f"{operation}: {step}", completed=_count(progress, "bytes") or 0,
                total=_count(progress, "total_bytes"),
            )  # fmt: skip

        yield show


def _count(progress: Mapping[str, Any], name: str) -> int | None:
    value = progress.get(name)
    return value if isinstance(value, int) else None
