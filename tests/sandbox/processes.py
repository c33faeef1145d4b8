"""Child processes of the sandbox: each in a group of its own, and all of them gone when the sandbox is."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

STOP_TIMEOUT_S = 20.0


class Child:
    """A running program with its output in a file."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL for the program alone, not for what it started."""
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        """The end of its output, for messages."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""


class Processes:
    """What a sandbox started. Leaving the block ends it, the newest first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []
        # The kernel kills a child when this process dies without a chance to stop it.
        setpriv = shutil.which("setpriv")
        self._guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []

    def __enter__(self) -> "Processes":
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            self.stop(child)

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Starts a program; its output goes to `<logs>/<name>.log`."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self._guard, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def stop(self, child: Child) -> None:
        """TERM, and KILL for the whole group when that takes too long."""
        if child.is_running():
            child.process.terminate()
            try:
                child.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.process.wait()
        self._children = [other for other in self._children if other is not child]


def wait_until(
    condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0, child: Child | None = None
) -> None:
    """Polls until the condition holds. Raises RuntimeError with the child's last words when it does not."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        died = child is not None and not child.is_running()
        if died or time.monotonic() > ends_at:
            words = f"\n{child.tail()}" if child else ""
            raise RuntimeError(f"{what}: {'it ended' if died else f'not within {timeout_s:g} s'}{words}")
        time.sleep(0.02)
