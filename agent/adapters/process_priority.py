"""The processor and I/O priority of this process, which all that it starts from then on inherits.

Nothing is given up for it: what this system does not let us lower is told, and the work goes on.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from agent.adapters import process
from agent.config import IoClass
from agent.errors import AgentError
from agent.logs import emit

IONICE_TIMEOUT_S = 5.0
# ionice(1): 3 is idle, 2 best-effort, of which 7 is the lowest. Python has no ioprio_set, and its ctypes takes longer
# to import than this program takes to run.
IONICE_FLAGS = {"idle": ("-c", "3"), "best-effort": ("-c", "2", "-n", "7")}
log = logging.getLogger(__name__)


def lower(nice: int, io_class: IoClass) -> None:
    """Lowers it, to be called before there are threads: Linux keeps both for each thread. Never raises it."""
    for problem in (*_lower_processor(nice), *_lower_io(io_class)):
        emit(log, logging.WARNING, "priority.not_lowered", f"this goes on at the usual priority: {problem}")


def _lower_processor(nice: int) -> Iterator[str]:
    if nice <= os.getpriority(os.PRIO_PROCESS, 0):
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        yield f"setpriority: {error.strerror}"
    # Without a CPU cgroup the kernel may weigh whole sessions against each other, and a worker has one of its own:
    # sched(7), "The autogroup feature". Where there is none, the file is not there.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(f"{nice}")


def _lower_io(io_class: IoClass) -> Iterator[str]:
    if io_class == "none":
        return
    try:
        done = process.run(
            [process.find("ionice"), *IONICE_FLAGS[io_class], "-p", str(os.getpid())], timeout_s=IONICE_TIMEOUT_S
        )
    except (AgentError, OSError) as error:
        yield str(error)
        return
    if done.returncode != 0:
        yield f"`{done.command}` ended with {done.returncode}: {done.stderr.strip()}"
