"""A snapshot on its way into the store while it is still written and verified, in a thread of its own."""

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from agent.domain.progress import Packed
from agent.domain.snapshot import Manifest, RetentionClass
from agent.errors import AwsUnavailable, of_the_node
from agent.operations import committing, compression
from agent.operations.compression import LEAST_EFFORT, Effort
from agent.operations.following import Following
from agent.operations.inspection import RawFile
from agent.operations.pacing import Pace
from agent.operations.steps import Job
from agent.ports import Store, StoredObject

WAIT_S = 0.25
GIVE_UP_S = 4.0
READ_WAIT_S = 2.0  # for a sender that has not begun to read when the file is whole
KEEP_RESERVE_S = 30.0  # of the operation's time, or a quarter where that is less: to keep the file on the node
PATIENCE_S = 300.0  # with a store that takes nothing more of a verified file
_Ended = TypeVar("_Ended")


class Sending:
    """The file on its way into the store, in a thread of its own, while it is still being written and verified.

    So a store that does not answer keeps nobody from saving and verifying. It begins before there is a file: the store
    is read while etcd is looked at.
    """

    def __init__(
        self, job: Job, target: Store, following: Following, *, emergency: bool, effort: Effort = LEAST_EFFORT,
        pace: Pace | None = None,
    ) -> None:  # fmt: skip
        self._job, self._target, self._following, self._emergency = job, target, following, emergency
        self._effort, self._pace = effort, pace or Pace()
        self._reserve_s = min(KEEP_RESERVE_S, job.time_left_s() / 4)
        self._pool = ThreadPoolExecutor(1, "sending")
        self._placed: futures.Future[Manifest | None] = futures.Future()
        self.retention_class: RetentionClass = "hourly"
        self.expected_bytes = 0  # of the raw file, to be set before it begins
        # Threads inherit no context: this one gets a copy, so that its log lines and calls carry the trace.
        self._stored = self._pool.submit(contextvars.copy_context().run, self._run)
        self._committed: futures.Future[dict[str, Any]] | None = None

    def existing(self, wait_s: float) -> Manifest | None:
        """What is in the store of this request already, None also when that is not known in time."""
        done, _ = futures.wait([self._placed], wait_s)
        return self._placed.result() if done and self._placed.exception() is None else None

    @property
    def packed(self) -> Packed:
        """What the sender has read, and what compressing made of it."""
        return Packed(self._following.read_bytes, self._pace.taken_bytes)

    def raw(self, on_wait: Callable[[int], None] = lambda done_bytes: None) -> RawFile | None:
        """What the sender read the file to be, None where it ended before the file's end. Raises SnapshotInvalid."""
        ends_at = time.monotonic() + READ_WAIT_S
        while not self._stored.done() and self._is_on(ends_at):
            if (raw := self._following.raw(WAIT_S)) is not None:
                return raw
            on_wait(self._following.read_bytes)
        return self._following.raw(0)

    def result(self, on_wait: Callable[[int], None]) -> StoredObject | Manifest:
        """Waits for the end: the object, or the manifest that was there already. Raises what the store raised.

        NoSpace and FileUnusable may also be of this node, where the upload is journalled.
        Raises AwsUnavailable too, when the store takes nothing more for a while, or little is left of the operation's
        time: enough to keep the file on this node. Raises UploadLimitTooLow where the configured limit is why.
        """
        return self._waited(self._stored, on_wait)

    def commit(self, manifest: Manifest) -> dict[str, Any]:
        """Writes the manifest of what was stored, and waits as `result` does. Returns the result's output.

        One that is written after nobody waits any more is found when the kept file is shipped.
        """
        self._committed = self._pool.submit(
            contextvars.copy_context().run, committing.commit, self._job, self._target, manifest
        )  # fmt: skip
        return self._waited(self._committed, lambda done_bytes: None)

    def give_up(self) -> None:
        """Ends it, with whatever is unfinished aborted; where the store does not answer, the journal stays."""
        self._following.give_up()
        ending: list[futures.Future[Any]] = [self._stored]
        if self._committed is not None:
            ending.append(self._committed)
        if self._following.has_begun:
            futures.wait(ending, GIVE_UP_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _waited(self, ended: futures.Future[_Ended], on_wait: Callable[[int], None]) -> _Ended:
        read_bytes, moved_at = -1, time.monotonic()
        while not ended.done():
            if self._following.read_bytes != read_bytes:
                read_bytes, moved_at = self._following.read_bytes, time.monotonic()
            if self._pace.is_pausing:
                moved_at = time.monotonic()  # that is not the store's doing
            if self._job.time_left_s() < self._reserve_s or time.monotonic() - moved_at > PATIENCE_S:
                if self._pace.is_the_brake:
                    raise self._pace.too_low(max(0, self.expected_bytes - read_bytes))
                raise AwsUnavailable(
                    f"{self._target.describe()} did not take the snapshot in time",
                    hint="is the link to the store slow, or does it hang? snapshot.timeout_s is the whole time",
                )
            on_wait(read_bytes)
            futures.wait([ended], WAIT_S)
        try:
            return ended.result()
        except OSError as error:  # of the journal or of a folder, which lie on this node
            raise of_the_node(error) or error from error

    def _is_on(self, ends_at: float) -> bool:
        """Whether the sender may still come to the file's end soon; one that waits for its store is not waited for."""
        if self._job.time_left_s() < 2 * self._reserve_s:
            return False
        return self._following.read_bytes > 0 or time.monotonic() < ends_at

    def _run(self) -> StoredObject | Manifest:
        try:
            existing, self.retention_class = committing.place(
                self._job, self._target, emergency=self._emergency, before_writing=self._following.await_begun
            )
        except BaseException as error:
            self._placed.set_exception(error)
            raise
        self._placed.set_result(existing)
        if existing is not None:
            return existing
        self._pace.require(self.expected_bytes, self._job.time_left_s() - self._reserve_s)
        return committing.send(
            self._job, self._target, self._chunks, self.retention_class, before_commit=self._following.await_verified
        )

    def _chunks(self) -> Iterator[bytes]:
        packed = compression.compressed(self._following.chunks(), self._effort)
        return self._pace.paced(packed, pause=self._following.pause)


@contextlib.contextmanager
def sent(
    job: Job, target: Store, following: Following, *, emergency: bool, effort: Effort = LEAST_EFFORT,
    pace: Pace | None = None,
) -> Iterator[Sending]:  # fmt: skip
    """Sends the file for as long as the block takes; an error there gives it up."""
    made = Sending(job, target, following, emergency=emergency, effort=effort, pace=pace)
    try:
        yield made
    finally:
        made.give_up()
