"""A node that boots: a real systemd on an overlay of this machine, in a container that systemd-nspawn runs.

Root only, and only where mounts, namespaces and cgroups may be made; `CanNotBoot` says what is missing.
"""

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.sandbox.processes import wait_until
from tests.setup.nspawn import nspawn

PROJECT = Path(__file__).resolve().parents[2]
# What the guide's commands need of this machine's own settings to reach a package index.
INDEX_VARIABLES = re.compile(r"(?i)(PIP_.*|(http|https|no)_proxy|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE)")
CLEAN_ENVIRONMENT = {
    "PATH": "/opt/etcd-agent/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
    "LANG": "C.UTF-8",
}  # fmt: skip
INSTALL_TIMEOUT_S = 300.0
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
NO_RIGHTS = "this machine boots no node: {}\n  next: run the tests as root of a whole machine"
BOOT_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0


class CanNotBoot(Exception):
    """This machine boots no node; the text says what is missing and how to get it."""


class BootedNode:
    """A node with systemd, etcd 3.5 and the installed agent."""

    def __init__(self, keeper: "subprocess.Popen[str]", console: Path) -> None:
        self._keeper = keeper
        self._console = console
        self._leader = 0
        # Where it lies in the keeper's own view of the file system, which nobody else has.
        self.folder = Path(self._answer("folder", BOOT_TIMEOUT_S))
        self._tree = Path(f"/proc/{keeper.pid}/root{self.folder}/root")

    def path(self, inside: str | Path) -> Path:
        """A path of the node as the tests reach it: of the tree, or of the booted node with its own /run and /tmp."""
        root = Path(f"/proc/{self._leader}/root") if self._leader else self._tree
        return root / str(inside).lstrip("/")

    def write(self, inside: str | Path, text: str, mode: int = 0o644) -> None:
        """Writes a file of the node, with the folders above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def run_unbooted(self, script: str, *options: str) -> str:
        """Runs a shell script in the tree before it boots, with this machine's network. Raises RuntimeError."""
        variables = [
            f"--setenv={name}={value}" for name, value in os.environ.items() if INDEX_VARIABLES.fullmatch(name)
        ]
        self._ask({"run": ["/bin/sh", "-euc", script], "options": [*variables, *options]})
        answer = self._answers(INSTALL_TIMEOUT_S, "ended")
        if answer["ended"] != 0:
            raise RuntimeError(f"`{script}` ended with {answer['ended']}:\n{answer['output'][-3000:]}")
        return str(answer["output"])

    def boot(self) -> None:
        """Boots the node and waits until systemd has started everything."""
        self._ask({"boot": True, "console": os.fspath(self._console)})
        self._await_boot()

    def reboot(self, *options: str) -> None:
        """Boots it again, in the way of `systemctl reboot`, and waits until everything is started.

        With `-ff` it goes down at once, with nothing stopped and nothing written down.
        """
        self.run("systemctl", "reboot", *options, check=False)
        self._await_boot()

    def power_off(self) -> None:
        """Ends it in the way of `systemctl poweroff`."""
        self.run("systemctl", "poweroff", check=False)
        self._answer("ended", STOP_TIMEOUT_S)
        self._leader = 0

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 60, variables: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a program on the booted node as root. Raises RuntimeError with its output when it fails."""
        completed = subprocess.run(
            self.command(*argv), env={**CLEAN_ENVIRONMENT, **(variables or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and completed.returncode != 0:
            raise RuntimeError(
                f"{shlex.join(argv)} ended with {completed.returncode}:\n{completed.stdout}{completed.stderr}"
            )
        return completed

    def command(self, *argv: str) -> list[str]:
        """The command that runs a program on the booted node."""
        return ["nsenter", f"--target={self._leader}", "--all", "--root", "--wd", "--", *argv]

    def show(self, name: str, unit: str = "etcd-agent.service") -> str:
        """A property of a unit, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    @contextlib.contextmanager
    def drop_in(self, *settings: str, unit: str = "etcd-agent.service") -> Iterator[None]:
        """Settings of a service for as long as the block lasts; what runs already keeps the old ones."""
        path = f"/run/systemd/system/{unit}.d/test.conf"
        self.write(path, "\n".join(["[Service]", *settings, ""]))
        self.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.path(path).unlink(missing_ok=True)  # a boot may have taken it away
            self.run("systemctl", "daemon-reload")

    def journal(self, *options: str) -> list[dict[str, Any]]:
        """The entries of the node's journal, all fields of each."""
        printed = self.run("journalctl", "--output=json", "--all", "--no-pager", *options).stdout
        return [json.loads(line) for line in printed.splitlines()]

    def _ask(self, command: dict[str, Any]) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(command) + "\n")
        self._keeper.stdin.flush()

    def _answer(self, name: str, timeout_s: float) -> Any:
        return self._answers(timeout_s, name)[name]

    def _answers(self, timeout_s: float, name: str) -> dict[str, Any]:
        output = self._keeper.stdout
        assert output is not None
        readable, _, _ = select.select([output], [], [], timeout_s)
        line = output.readline() if readable else ""
        answer: dict[str, Any] = json.loads(line) if line else {}
        if "impossible" in answer:
            raise CanNotBoot(NO_RIGHTS.format(answer["impossible"]))
        if name not in answer:
            raise RuntimeError(f"no {name!r} within {timeout_s:g} s: {answer}\n{self._last_words()}")
        return answer

    def _await_boot(self) -> None:
        self._leader = self._answer("leader", BOOT_TIMEOUT_S)
        wait_until(self._is_up, f"the node does not come up\n{self._last_words()}", timeout_s=BOOT_TIMEOUT_S)

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _last_words(self) -> str:
        return self._console.read_text(errors="replace")[-3000:] if self._console.exists() else ""


@contextlib.contextmanager
def tree(folder: Path) -> Iterator[BootedNode]:
    """A node that has not booted yet, with nothing installed; gone afterwards. Raises CanNotBoot."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "keeper.log"
    with _start_keeper(errors) as keeper:  # closes its input at the end and waits until it has put everything away
        try:
            node = BootedNode(keeper, folder / "console.log")
            node.run_unbooted("true")
        except RuntimeError as error:
            raise CanNotBoot(NO_RIGHTS.format(errors.read_text().strip() or error)) from None
        if not any(node.path(program).exists() for program in SYSTEMD):
            raise CanNotBoot("there is no systemd to boot: install the packages systemd and systemd-sysv")
        yield node


def _start_keeper(errors: Path) -> "subprocess.Popen[str]":
    if os.geteuid() != 0:
        raise CanNotBoot("a node boots only for root: run the tests by sudo")
    try:
        command = nspawn()
    except SystemExit as ended:
        raise CanNotBoot(str(ended)) from None
    for tool, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("mount", "mount")):
        if shutil.which(tool) is None:
            raise CanNotBoot(f"{tool} is missing: install the package {package}")
    keeper = [sys.executable, "-m", "tests.sandbox.node_keeper", command.library, os.fspath(command.program)]
    with errors.open("wb") as stderr:
        return subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "--", *keeper], cwd=PROJECT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip
