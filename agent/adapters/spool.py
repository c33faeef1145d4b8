"""The spool: a request's folder is its state. Every move creates the next file before it removes the last one.

Readers look in the order a request flows (incoming, waiting, running, then the ends), so they can not miss one
that moves meanwhile. Nothing is renamed out of `incoming/`, because watchdog holds such a move back for 0.5 s.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters import files
from agent.adapters.files import Entry as Entry
from agent.adapters.files_lock import Lock as Lock
from agent.adapters.files_lock import remove_unused_lock as remove_unused_lock
from agent.adapters.spool_cancellations import Cancellations
from agent.adapters.spool_rejections import Rejections
from agent.adapters.spool_watch import watch as watch
from agent.domain import keeping
from agent.domain.keeping import Ledger
from agent.domain.request import MOST_REQUEST_BYTES, Record, Status, decode, encode
from agent.errors import AgentError, BadInput, SpoolFull

LIVE_STATES = ("incoming", "waiting", "running")
ENDS: tuple[Status | str, ...] = ("done", "failed", "refused")
FOLDERS = (*LIVE_STATES, *ENDS, "cancel", "rejected", "progress")
END_OF_STATUS = {"succeeded": "done", "failed": "failed", "refused": "refused"}
MOST_WAITING = 1000
GATE_WAIT_S = 5.0
MOST_RECORD_BYTES = 16 * 1024 * 1024
SUFFIX = ".json"
LEDGER_NAME = "ages.json"


@dataclass(frozen=True)
class Found:
    """A record and the folder it was seen in."""

    state: str
    record: Record


class Spool:
    """The folders of one node. Raises FileNotFoundError where the spool is missing, except in `create`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Makes the folders; for the daemon alone, who owns them."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o750)

    @property
    def owner(self) -> int:
        """The uid that requests must belong to."""
        return self.folder.stat().st_uid

    def path(self, state: str, op_id: str) -> Path:
        """Where a record lies in a state."""
        return self.folder / state / f"{op_id}{SUFFIX}"

    def submit(self, record: Record) -> bool:
        """Puts a request into `incoming/`, durable when it returns. False when one with that id waits there.

        Raises SpoolFull when as many wait as may.
        """
        path = self.path("incoming", record.request.op_id)
        return files.publish(path, encode(record), gate=self._room_for(path))

    @contextlib.contextmanager
    def _room_for(self, path: Path) -> Iterator[None]:
        """Counting and linking are one step for all who submit at once.

        One of them that was stopped in it must not stop all the others: these then keep their distance from the bound.
        """
        with files.folder_lock(path.parent, wait_s=GATE_WAIT_S) as held:
            waiting = files.count(path.parent)
            if waiting >= (MOST_WAITING if held else MOST_WAITING * 9 // 10) and not path.exists():
                raise SpoolFull(
                    f"{waiting} requests wait in {path.parent}, more than {MOST_WAITING} are not taken",
                    hint="what asks so often, and what holds the rest up? `etcd-agent ops list`, `etcd-agent status`",
                )
            yield

    def find(self, op_id: str, *, beyond_incoming: bool = False) -> Found | None:
        """Where an operation is now, or where beyond `incoming/`. Raises BadInput when its record is damaged."""
        for _ in range(2):  # twice: one that went back to `incoming/` meanwhile is seen by the second look
            for state in LIVE_STATES[beyond_incoming:]:
                with contextlib.suppress(FileNotFoundError):
                    return Found(state, self.read(state, op_id))
            if (end := self.end_of(op_id)) is not None:
                return end
        return None

    def end_of(self, op_id: str) -> Found | None:
        """The newest generation that ended. Raises BadInput when its record is damaged."""
        ends: list[Found] = []
        for state in ENDS:  # two of them, where a crash kept the end of an earlier generation from being removed
            with contextlib.suppress(FileNotFoundError):
                ends.append(Found(state, self.read(state, op_id)))
        return max(ends, key=lambda found: found.record.generation, default=None)

    def read(self, state: str, op_id: str) -> Record:
        """A record in a state. Raises FileNotFoundError, BadInput."""
        most_bytes = MOST_REQUEST_BYTES if state == "incoming" else MOST_RECORD_BYTES
        content = files.read_owned(self.path(state, op_id), owner=self.owner, most_bytes=most_bytes)
        record = decode(content)
        if record.request.op_id != op_id:
            raise BadInput(f"{state}/{op_id}{SUFFIX} holds the request {record.request.op_id}")
        return record

    def names(self, state: str) -> list[str]:
        """File names in a state, the oldest first, without unfinished writes."""
        return files.names_by_age(self.folder / state)

    def entries(self, state: str) -> list[Entry]:
        """The files in a state with their versions, the oldest first, without unfinished writes."""
        return files.entries_by_age(self.folder / state)

    def records(self, *states: str) -> Iterator[Found]:
        """All readable records of the given states; damaged ones are left out."""
        for state in states:
            for name in self.names(state):
                with contextlib.suppress(FileNotFoundError, BadInput):
                    yield Found(state, self.read(state, name.removesuffix(SUFFIX)))

    def claim(self, op_id: str) -> bool:
        """Moves a request from `incoming/` to `running/`; False when one is there already."""
        return files.move_without_overwrite(self.path("incoming", op_id), self.path("running", op_id))

    def drop_incoming(self, op_id: str) -> None:
        """Removes a request that has been claimed before: what a crash between link and unlink leaves."""
        self.path("incoming", op_id).unlink(missing_ok=True)

    def update_running(self, record: Record) -> None:
        """Replaces the record of a running operation."""
        files.write_atomic(self.path("running", record.request.op_id), encode(record))

    def park(self, record: Record) -> None:
        """Moves a running operation to `waiting/`, or replaces its record there."""
        files.write_atomic(self.path("waiting", record.request.op_id), encode(record))
        self.drop_running(record.request.op_id)

    def unpark(self, record: Record) -> None:
        """Moves a parked operation to `running/`."""
        self.update_running(record)
        self.drop_waiting(record.request.op_id)

    def finish(self, record: Record) -> None:
        """Moves a record with its result to the end that the result's status names."""
        result = record.result
        if result is None:
            raise AgentError(f"operation {record.request.op_id} has no result to finish with")
        op_id, end = record.request.op_id, END_OF_STATUS[result.status]
        files.write_atomic(self.path(end, op_id), encode(record))
        self.drop_running(op_id)
        self.drop_waiting(op_id)
        for other in ENDS:
            if other != end:  # the result of an earlier generation; the record carries it along
                self.path(other, op_id).unlink(missing_ok=True)

    def drop_running(self, op_id: str) -> None:
        """Removes the record, and before it the progress, of what ended: a crash between leaves what is found again."""
        self.path("progress", op_id).unlink(missing_ok=True)
        self.path("running", op_id).unlink(missing_ok=True)

    def drop_waiting(self, op_id: str) -> None:
        """Removes the record of what waits no more."""
        self.path("waiting", op_id).unlink(missing_ok=True)

    def ended(self, op_id: str, generation: int) -> bool:
        """Whether that generation has ended."""
        for end in ENDS:
            with contextlib.suppress(FileNotFoundError, BadInput):
                if self.read(end, op_id).generation >= generation:
                    return True
        return False

    @property
    def cancellations(self) -> Cancellations:
        """What is to be cancelled."""
        return Cancellations(self.folder / "cancel")

    @property
    def rejections(self) -> Rejections:
        """What was put aside as no valid request."""
        return Rejections(self.folder / "rejected")

    def reject(self, name: str, reason: str, now: str, *, state: str = "incoming") -> None:
        """Moves what is no request to `rejected/`, with the reason beside it."""
        self.rejections.put(self.folder / state / name, reason, now)

    def is_parked(self, op_id: str, generation: int) -> bool:
        """Whether that generation waits for the cluster."""
        with contextlib.suppress(FileNotFoundError, BadInput):
            return self.read("waiting", op_id).generation >= generation
        return False

    def write_progress(self, op_id: str, progress: dict[str, Any]) -> None:
        """Says how far an operation is; not synced, it is only for onlookers."""
        path = self.path("progress", op_id)
        temporary = path.with_name(f".{path.name}.tmp")
        with contextlib.suppress(OSError):  # a full disk here must not end an operation that needs none
            temporary.write_text(json.dumps(progress))
            temporary.rename(path)

    def read_progress(self, op_id: str) -> dict[str, Any]:
        """The last progress of an operation, empty when it has none."""
        return files.read_object(self.path("progress", op_id))

    def is_live(self, op_id: str) -> bool:
        """Whether it waits or runs."""
        return any(self.path(state, op_id).exists() for state in LIVE_STATES)

    def remove(self, state: str, entry: Entry) -> None:
        """Removes a file or folder of a state."""
        files.remove_whole(self.folder / state / entry.name)

    def read_ledger(self) -> Ledger:
        """Since when each ended and rejected file is there."""
        try:
            return keeping.decode((self.folder / LEDGER_NAME).read_bytes())
        except FileNotFoundError:
            return Ledger()

    def write_ledger(self, ledger: Ledger) -> None:
        """Replaces it."""
        files.write_atomic(self.folder / LEDGER_NAME, keeping.encode(ledger))

    def unfinished_writes(self) -> list[Path]:
        """Temporary files, of writers at work or killed ones."""
        return [
            Path(entry.path)
            for folder in (self.folder, *(self.folder / state for state in FOLDERS))
            for entry in os.scandir(folder)
            if files.is_temporary(entry.name)
        ]


def lock_at(path: Path) -> files.Lock:
    """The lock of an operation, or of the daemon."""
    return files.Lock(path)


def become_owner(folder: Path) -> None:
    """Run by root, this process becomes the spool's owner for good, before it touches anything there.

    Raises FileNotFoundError when the spool is missing.
    """
    status = folder.stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        os.setgroups([])
        os.setgid(status.st_gid)
        os.setuid(status.st_uid)
