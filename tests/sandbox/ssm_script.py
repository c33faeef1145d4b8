"""Runs a document's script as the SSM agent does: `sh -c _script.sh` in a process group of its own."""

import enum
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

STDOUT_LIMIT, STDERR_LIMIT = 24000, 8000
KILLED = 128 + signal.SIGKILL
POLL_MS = 20
# A script that another thread's fork still holds open for writing cannot be executed ("text file busy").
_spawning = threading.Lock()


class End(enum.Enum):
    """Why a script is over."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Outcome:
    """How a script ended, with as much of its output as SSM keeps."""

    end: End
    exit_code: int
    stdout: str
    stderr: str


class Script:
    """One run. The shell stays unreaped until `close`, so that its group's number cannot become another's."""

    def __init__(
        self, folder: Path, text: str, environment: Mapping[str, str], cwd: Path, *, stdout_limit: int = STDOUT_LIMIT
    ) -> None:
        folder.mkdir(parents=True)
        self._stdout_limit = stdout_limit
        self._folder = folder
        self._text = text
        self._environment = dict(environment)
        self._cwd = cwd
        self._shell: subprocess.Popen[bytes] | None = None

    def run(self, must_end: Callable[[], End | None]) -> Outcome:
        """Runs it; `must_end` is asked again and again, and kills the whole group once it names a reason."""
        try:
            shell = self._start()
        except OSError as error:
            return Outcome(End.EXITED, 1, "", f"the script could not be started: {error}")
        watch = os.pidfd_open(shell.pid)
        try:
            end = _wait(watch, must_end)
            if end is not End.EXITED:
                os.killpg(shell.pid, signal.SIGKILL)
            ended = os.waitid(os.P_PIDFD, watch, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(watch)
        if ended is None:
            raise RuntimeError(f"the shell {shell.pid} was reaped by somebody else")
        code = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        return Outcome(end, code, self._output("stdout", self._stdout_limit), self._output("stderr", STDERR_LIMIT))

    def close(self) -> None:
        """Kills what is left of the group, in the background too."""
        if self._shell is not None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
            self._shell = None

    def _start(self) -> "subprocess.Popen[bytes]":
        path = self._folder / "_script.sh"
        with (
            (self._folder / "stdout").open("wb") as stdout,
            (self._folder / "stderr").open("wb") as stderr,
            _spawning,
        ):
            path.write_text(self._text)
            path.chmod(0o700)
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", str(path)], cwd=self._cwd, env=self._environment, process_group=0,
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )  # fmt: skip
        return self._shell

    def _output(self, name: str, limit: int) -> str:
        with (self._folder / name).open(encoding="utf-8", errors="replace", newline="") as file:
            return file.read(limit)


def _wait(watch: int, must_end: Callable[[], End | None]) -> End:
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    while not poll.poll(POLL_MS):
        end = must_end()
        if end is not None:
            return end
    return End.EXITED
