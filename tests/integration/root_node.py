"""A node's folders as tmpfiles makes them, and the root service run by the test; two users where root runs it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent.config import Paths
from agent.domain.root_request import REQUESTS_FOLDER, RESULTS_FOLDER, RootRequest, RootResult, decode_result

TRACE_ID = "65b9e4c0dddddddddddddddddddddddd"
OP_ID = "snapshot-0123456789abcdef"
SERVICE_UID = 61234


class RootNode:
    """One `ETCD_AGENT_ROOT`; its service user is another one than root where that can be."""

    def __init__(self, folder: Path, *, one_user: bool = False) -> None:
        self.paths = Paths(folder)
        self.uid = SERVICE_UID if os.geteuid() == 0 and not one_user else os.geteuid()
        self.requests = self.paths.spool / REQUESTS_FOLDER
        self.results = self.paths.spool / RESULTS_FOLDER
        self.tools = self.paths.tools
        for path, mode, uid in (
            (self.paths.state, 0o755, self.uid), (self.paths.spool, 0o750, self.uid),
            (self.requests, 0o770, os.geteuid()), (self.results, 0o750, os.geteuid()),
            (self.tools, 0o755, os.geteuid()),
        ):  # fmt: skip
            path.mkdir(parents=True, mode=0o700)
            self._own(path, uid)
            path.chmod(mode)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "ETCD_AGENT_ROOT": str(self.paths.root), "LANG": "C.UTF-8"}

    def configure(self, text: str) -> None:
        self.paths.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.paths.config_file.write_text(text)

    def put(self, identifier: str, **changes: Any) -> Path:
        """A request of the service user's."""
        request = RootRequest(identifier, "copy-tools", TRACE_ID, OP_ID, "1" * 16)
        return self.put_bytes(f"{identifier}.json", msgspec.json.encode(msgspec.to_builtins(request) | changes))

    def put_bytes(self, name: str, content: bytes) -> Path:
        path = self.requests / name
        path.write_bytes(content)
        self._own(path, self.uid)
        return path

    def command(self) -> list[str]:
        return [sys.executable, "-m", "agent", "privileged"]

    def serve(self, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """One run of the root service."""
        completed = subprocess.run(
            self.command(), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or completed.returncode == 0, completed.stderr
        return completed

    def result(self, identifier: str) -> RootResult:
        return decode_result((self.results / f"{identifier}.json").read_bytes())

    def pin(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.tools / "pinned.json").read_text())
        return found

    @contextlib.contextmanager
    def path_unit(self) -> Iterator[None]:
        """Starts the root service whenever a request lies there, as the path unit does."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                if any(not name.startswith(".") for name in os.listdir(self.requests)):  # noqa: PTH208 - names
                    self.serve(check=False)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _own(self, path: Path, uid: int) -> None:
        if os.geteuid() == 0:
            os.chown(path, uid, self.uid)
