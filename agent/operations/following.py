"""A snapshot file that is read while etcdctl still writes it: what follows ends shortly after etcdctl does.

etcdctl writes `<path>.part` from its start to its end, syncs it, and renames it; an open descriptor stays valid.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Literal, TypeAlias

from agent.errors import SnapshotInvalid
from agent.operations.inspection import RawFile, TrailerDigest
from agent.operations.writeback import Writeback

CHUNK_BYTES = 1024 * 1024
POLL_S = 0.01
State: TypeAlias = Literal["planned", "writing", "written", "verified", "committing", "given up"]


class GivenUp(Exception):
    """The one who wrote or verified the file failed, so nothing may come of what was read."""


class Following:
    """One thread writes and verifies the file, another one reads it; each tells the other how far it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._changed = threading.Condition()
        self._state: State = "planned"
        self._raw: RawFile | SnapshotInvalid | None = None
        self._verified: RawFile | None = None
        self.read_bytes = 0
        self.has_begun = False

    def begins(self) -> None:
        """The file is going to be written: what comes of it may leave its marks.

        What lies there of a former attempt is gone by then, or it would be read. Raises OSError.
        """
        for path in (self._part, self._path):
            path.unlink(missing_ok=True)
        self.has_begun = True
        self._become("writing")

    def written(self) -> None:
        """The file is whole, under its own name."""
        self._become("written")

    def verified(self, raw: RawFile) -> None:
        """Those bytes were verified, by whatever reading of the file: only they may be committed."""
        self._verified = raw
        self._become("verified")

    def give_up(self) -> None:
        """Whoever reads or waits gets GivenUp; what is being committed already is not held up."""
        with self._changed:
            if self._state != "committing":
                self._become("given up")

    def await_begun(self) -> None:
        """Returns when the file is going to be written. Raises GivenUp."""
        with self._changed:
            while self._require_hope() == "planned":
                self._changed.wait(1.0)

    def chunks(self) -> Iterator[memoryview]:
        """The raw bytes in order, to the file's end. Raises GivenUp. May be called again once the file is whole.

        Each chunk is a view of one buffer, good until the next is asked for.
        """
        digest, buffer = TrailerDigest(), memoryview(bytearray(CHUNK_BYTES))
        self.read_bytes = 0
        with self._open() as stream, Writeback(stream.fileno()) as writeback:
            while True:
                state = self._require_hope()  # looked at before the read: after "written" an empty read is the end
                if got_bytes := stream.readinto(buffer):
                    chunk = buffer[:got_bytes]
                    digest.update(chunk)
                    self.read_bytes += got_bytes
                    if state == "writing":
                        writeback.reached(self.read_bytes)
                    yield chunk
                elif state in ("planned", "writing"):
                    self._wait()
                else:
                    break
        with self._changed:
            try:
                self._raw = digest.finished()
            except SnapshotInvalid as error:
                self._raw = error
            self._changed.notify_all()

    def await_verified(self) -> None:
        """Returns when what was read may be committed. Raises GivenUp, SnapshotInvalid when other bytes were verified.

        The file is read more than once, and a disk or a memory that fails need not give the same bytes each time.
        """
        with self._changed:
            while self._require_hope() not in ("verified", "committing"):
                self._changed.wait(1.0)
            if self.raw(0) != self._verified:
                raise SnapshotInvalid(
                    "the bytes that were sent are not those that were verified",
                    hint="the file did not read back the same: check memory and disks, then try again",
                )
            self._state = "committing"

    def pause(self, seconds: float) -> None:
        """Sleeps for the one who sends what was read. Raises GivenUp, at once when it is."""
        ends_at = time.monotonic() + seconds
        with self._changed:
            while self._require_hope() and (left_s := ends_at - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def raw(self, timeout_s: float) -> RawFile | None:
        """What the reader found, None when it is not at the end in that time. Raises SnapshotInvalid."""
        with self._changed:
            self._changed.wait_for(lambda: self._raw is not None, timeout_s)
            if isinstance(self._raw, SnapshotInvalid):
                raise self._raw
            return self._raw

    def _become(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            if self._state in ("planned", "writing", "written"):
                self._changed.wait(POLL_S)

    def _require_hope(self) -> str:
        if self._state == "given up":
            raise GivenUp("the snapshot was given up")
        return self._state

    def _open(self) -> FileIO:
        while True:
            self._require_hope()
            for path in (self._part, self._path):  # in this order, since the rename goes in this order
                with contextlib.suppress(FileNotFoundError):
                    return path.open("rb", buffering=0)
            self._wait()
