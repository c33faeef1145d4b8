"""Request files: by the decoder alone, and through the folders and the intake of a daemon."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.adapters import process
from agent.adapters.spool import FOLDERS, Spool
from agent.domain import snapshot
from agent.domain.request import OPERATIONS, Record, decode, encode
from agent.errors import BadInput
from agent.intake import Intake
from tests.fuzz import odd
from tests.fuzz.target import Check, Target

OP_ID = "snapshot-0123456789abcdef"
REQUEST = {
    "request": {
        "op_id": OP_ID, "operation": "snapshot", "trace_id": "697d9d40" + "1" * 24,
        "requested_at": "2026-01-31T12:00:00Z", "params": {"emergency": "false"}, "span_id": "1234567890abcdef",
        "source": "ssm", "ssm_command_id": "5ec0de00-0000-4000-8000-000000000001",
    },
    "generation": 1, "attempt": 0, "schema": 1,
}  # fmt: skip
VERIFY = REQUEST | {"request": REQUEST["request"] | {"operation": "verify", "params": {"id": "latest"}}}  # type: ignore[operator]
RESULT = {
    "op_id": OP_ID, "generation": 1, "trace_id": "1" * 32, "operation": "snapshot", "status": "failed", "attempt": 1,
    "started_at": "2026-01-31T12:00:00Z", "finished_at": "2026-01-31T12:00:09Z",
    "steps": [{"name": "save", "status": "failed", "duration_ms": 9}],
    "output": {"raw_size_bytes": 4096, "checks": {"trailer": "passed"}, "nested": [[]]},
    "error": {"code": "etcd_unavailable", "message": "no answer", "hint": "look", "retryable": True}, "schema": 1,
}  # fmt: skip
ACCEPTANCE = {"accepted_at": "2026-01-31T12:00:00Z", "boot_id": "b", "deadline_boot_s": 1e9, "timeout_s": 1800}
ENDED = REQUEST | {"attempt": 1, "acceptance": ACCEPTANCE, "results": [RESULT]}
RUNNING = REQUEST | {"attempt": 1, "acceptance": ACCEPTANCE}
ANOTHER_GENERATION = REQUEST | {"generation": 2, "results": [RESULT]}
PATTERNS = {
    "op_id": r"[a-z0-9-]{8,64}", "trace_id": r"[0-9a-f]{32}", "span_id": r"|[0-9a-f]{16}",
    "ssm_command_id": r"[0-9a-fA-F-]{0,64}", "requested_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
}  # fmt: skip

contents = st.one_of(*map(odd.documents, (REQUEST, VERIFY, ANOTHER_GENERATION, ENDED)), odd.noise)


@contextlib.contextmanager
def opened_decoder(folder: Path) -> Iterator[Check]:
    def check(content: bytes) -> None:
        try:
            record = decode(content)
        except BadInput as error:
            assert error.message
            return
        require_sound(record)

    yield check


def require_sound(record: Record) -> None:
    """What an accepted record promises to whatever uses its words in names, arguments and logs."""
    request = record.request
    for name, pattern in PATTERNS.items():
        assert re.fullmatch(pattern, getattr(request, name), re.ASCII), f"{name} is {getattr(request, name)!r}"
    assert int(request.trace_id, 16), "a trace id of zeros"
    for name, value in request.params.items():
        assert re.fullmatch(OPERATIONS[request.operation].params[name], value, re.ASCII)
    assert Path(request.op_id).name == request.op_id
    assert snapshot.id_of_manifest_key(f"{snapshot.snapshot_id(request.requested_at, request.op_id)}.json")
    assert decode(encode(record)) == record


@dataclass(frozen=True)
class Placed:
    """A file that lies somewhere in the spool when the daemon looks."""

    state: str
    name: bytes
    content: bytes
    kind: str = "file"


ODD_NAMES = (
    b"verify-00000000.json", b"--help-me.json", b"x" * 250 + b".json", b".json", b".hidden.json", b".x.tmp",
    b"\xff.json", b"$(id).json", b"a\nb.json",
)  # fmt: skip


def is_file_name(name: bytes) -> bool:
    """Whether a folder can have it."""
    return not (b"/" in name or b"\0" in name or name in (b"", b".", b"..") or len(name) > 255)


NAMES = st.one_of(
    st.just(f"{OP_ID}.json".encode()), st.sampled_from(ODD_NAMES), st.binary(min_size=1, max_size=30),
    odd.texts_near(f"{OP_ID}.json").map(odd.as_os_text).map(os.fsencode),
).filter(is_file_name)  # fmt: skip
KINDS = st.sampled_from(["file"] * 9 + ["folder", "link", "pipe"])
LOCKS = st.one_of(
    st.sampled_from([b"", b"1 b", b"9" * 5000, b"-1 x", "٣ b".encode(), b"\xff\xfe", b"0", b"1"]).map(
        lambda text: text if text in (b"",) else text + b" BOOT"
    ),
    st.binary(max_size=20),
)


@st.composite
def spools(draw: st.DrawFn) -> Sequence[Placed]:
    """Some files in some folders: requests, records of every state, and what lies beside them."""
    placed = []
    for _ in range(draw(st.integers(1, 4))):
        state = draw(st.sampled_from(["incoming"] * 6 + ["running"] * 3 + ["done", "failed", "refused", "waiting"]))
        base = {"incoming": contents, "running": odd.documents(RUNNING, 2)}.get(state, odd.documents(ENDED, 2))
        placed.append(Placed(state, draw(NAMES), draw(base), draw(KINDS)))
    if draw(st.integers(0, 2)) == 0:
        placed.append(Placed("locks", OP_ID.encode(), draw(LOCKS), draw(st.sampled_from(["file"] * 5 + ["folder"]))))
    return placed


def put(root: Path, one: Placed) -> None:
    """Makes the file, folder, link or pipe; what is there already stays."""
    base = root / "locks" if one.state == "locks" else root / "spool" / one.state
    path = base / os.fsdecode(one.name)
    with contextlib.suppress(FileExistsError):
        if one.kind == "folder":
            path.mkdir()
        elif one.kind == "link":
            path.symlink_to("/etc/passwd")
        elif one.kind == "pipe":
            os.mkfifo(path)
        elif not path.is_dir() and not path.is_fifo() and not path.is_symlink():
            path.write_bytes(one.content.replace(b"BOOT", process.boot_id().encode()))


def clear(folder: Path) -> None:
    """Removes what is in a folder, of whatever kind."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


class Scan:
    """The intake over folders in memory; a worker that ends at once without a result stands for the real ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root / "spool")
        self.spool.create()
        for name in ("locks", "work"):
            (root / name).mkdir(exist_ok=True)

    def check(self, placed: Sequence[Placed]) -> None:
        for one in placed:
            put(self.root, one)
        intake = Intake(
            spool=self.spool, locks=self.root / "locks", work=self.root / "work", worker_argv=["/bin/true"],
            environment={}, timeout_s=lambda operation: 60, clean_up_s=0.1,
        )  # fmt: skip
        try:
            for _ in range(2):
                intake.cycle()
                intake.describe()
                intake.next_deadline_in_s()
                for running in intake.workers.all():
                    require_sound(running.record)
                    running.process.child.wait()
            intake.reap(rerun=False)
            self._require_answered()
        finally:
            for running in intake.workers.all():
                running.process.child.wait()
            for folder in (*(self.root / "spool" / name for name in FOLDERS), self.root / "locks", self.root / "work"):
                clear(folder)

    def _require_answered(self) -> None:
        """What still waits may wait, and what was rejected says why."""
        for name in self.spool.names("incoming"):
            require_sound(self.spool.read("incoming", name.removesuffix(".json")))
        rejected = self.spool.names("rejected")
        reasons = [name for name in rejected if name.endswith(".reason.json")]
        assert len(rejected) == 2 * len(reasons), rejected
        for name in reasons:
            told: Any = json.loads((self.root / "spool/rejected" / name).read_bytes())
            assert told["reason"]


@contextlib.contextmanager
def opened_scan(folder: Path) -> Iterator[Check]:
    yield Scan(folder).check


TARGETS = (
    Target("requests", "request files, decoded", 24, contents, opened_decoder),
    Target("intake", "files in the spool and its locks, through the daemon's intake", 10, spools(), opened_scan),
)
