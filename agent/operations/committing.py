"""Storing a verified snapshot and making it a backup: which class, the data, and last the manifest."""

import contextlib
import contextvars
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.domain import retention, snapshot
from agent.domain.request import format_moment, parse_moment
from agent.domain.snapshot import Check, Manifest, RetentionClass, StoredData
from agent.errors import AgentError, AwsUnavailable, KeyTaken, SnapshotInvalid
from agent.logs import emit
from agent.operations import catalogue, compression, leftovers
from agent.operations.following import Following
from agent.operations.inspection import RawFile
from agent.operations.steps import Job
from agent.ports import Store, StoredObject

MOST_KEYS = 3
WAIT_S = 0.25
GIVE_UP_S = 4.0
READ_WAIT_S = 2.0  # for a sender that has not begun to read when the file is whole
KEEP_RESERVE_S = 30.0  # of the operation's time, or a quarter where that is less: to keep the file on the node
PATIENCE_S = 300.0  # with a store that takes nothing more of a verified file
log = logging.getLogger(__name__)


def place(
    job: Job, store: Store, *, emergency: bool, before_writing: Callable[[], None] = lambda: None
) -> tuple[Manifest | None, RetentionClass]:
    """The manifest that an earlier attempt or another node wrote for this request, else the class to store under.

    `before_writing` is called when all is read, and may wait or raise.
    """
    leftovers.abandon_uploads(job.work_root, job.folder, store, job.hold)
    identifier = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    existing = catalogue.find(store, job.cluster, identifier)
    if existing is not None:
        return existing.manifest, existing.manifest.retention_class
    wanted: RetentionClass = "emergency" if emergency else wanted_class(job, store, damaged=[])
    before_writing()
    return None, wanted if emergency else _agreed(job, store, wanted)


def wanted_class(job: Job, store: Store, *, damaged: list[SnapshotInvalid]) -> RetentionClass:
    """The class by the calendar, if this node alone had to say."""
    now = parse_moment(job.request.requested_at)

    def is_near(identifier: str) -> bool:
        return abs(snapshot.moment_of_id(identifier) - now) < retention.MONTHLY_AGE

    near = catalogue.backups(store, job.cluster, retention.SLOT_CLASSES, wanted=is_near, damaged=damaged)
    return retention.choose_class(near, job.request.requested_at)


def _agreed(job: Job, store: Store, wanted: RetentionClass) -> RetentionClass:
    """The class that whoever runs this operation stores under: the first one's choice.

    Two nodes at the same operation may find different monthlies. A manifest each, in two classes, would be two
    backups of one operation, and no node could take its own back.
    """
    key = snapshot.class_key(job.cluster, snapshot.snapshot_id(job.request.requested_at, job.request.op_id))
    metadata = {"trace-id": job.request.trace_id, "op-id": job.request.op_id, "cluster": job.cluster}
    if store.put_if_absent(key, wanted.encode(), metadata=metadata):
        return wanted
    return snapshot.decode_class(store.read(key), key)


class Sending:
    """The file on its way into the store, in a thread of its own, while it is still being written and verified.

    So a store that does not answer keeps nobody from saving and verifying. It begins before there is a file: the store
    is read while etcd is looked at.
    """

    def __init__(self, job: Job, target: Store, following: Following, *, emergency: bool) -> None:
        self._job, self._target, self._following, self._emergency = job, target, following, emergency
        self._reserve_s = min(KEEP_RESERVE_S, job.time_left_s() / 4)
        self._pool = ThreadPoolExecutor(1, "sending")
        self._placed: futures.Future[Manifest | None] = futures.Future()
        self.retention_class: RetentionClass = "hourly"
        # Threads inherit no context: this one gets a copy, so that its log lines and calls carry the trace.
        self._stored = self._pool.submit(contextvars.copy_context().run, self._run)

    def existing(self, wait_s: float) -> Manifest | None:
        """What is in the store of this request already, None also when that is not known in time."""
        done, _ = futures.wait([self._placed], wait_s)
        return self._placed.result() if done and self._placed.exception() is None else None

    def raw(self) -> RawFile | None:
        """What the sender read the file to be, None where it ended before the file's end. Raises SnapshotInvalid."""
        ends_at = time.monotonic() + READ_WAIT_S
        while not self._stored.done() and self._is_on(ends_at):
            if (raw := self._following.raw(WAIT_S)) is not None:
                return raw
        return self._following.raw(0)

    def result(self, on_wait: Callable[[int], None]) -> StoredObject | Manifest:
        """Waits for the end: the object, or the manifest that was there already. Raises what the store raised.

        Raises AwsUnavailable too, when the store takes nothing more for a while, or little is left of the operation's
        time: enough to keep the file on this node.
        """
        read_bytes, moved_at = -1, time.monotonic()
        while not self._stored.done():
            if self._following.read_bytes != read_bytes:
                read_bytes, moved_at = self._following.read_bytes, time.monotonic()
            if self._job.time_left_s() < self._reserve_s or time.monotonic() - moved_at > PATIENCE_S:
                raise AwsUnavailable(
                    f"{self._target.describe()} did not take the snapshot in time",
                    hint="is the link to the store slow, or does it hang? snapshot.timeout_s is the whole time",
                )
            on_wait(read_bytes)
            futures.wait([self._stored], WAIT_S)
        return self._stored.result()

    def give_up(self) -> None:
        """Ends it, with whatever is unfinished aborted; where the store does not answer, the journal stays."""
        self._following.give_up()
        if self._following.has_begun:
            futures.wait([self._stored], GIVE_UP_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _is_on(self, ends_at: float) -> bool:
        """Whether the sender may still come to the file's end soon; one that waits for its store is not waited for."""
        if self._job.time_left_s() < 2 * self._reserve_s:
            return False
        return self._following.read_bytes > 0 or time.monotonic() < ends_at

    def _run(self) -> StoredObject | Manifest:
        try:
            existing, self.retention_class = place(
                self._job, self._target, emergency=self._emergency, before_writing=self._following.await_begun
            )
        except BaseException as error:
            self._placed.set_exception(error)
            raise
        self._placed.set_result(existing)
        if existing is not None:
            return existing
        return send(
            self._job, self._target, lambda: compression.compressed(self._following.chunks()), self.retention_class,
            before_commit=self._following.await_verified,
        )  # fmt: skip


@contextlib.contextmanager
def sending(job: Job, target: Store, following: Following, *, emergency: bool) -> Iterator[Sending]:
    """Sends the file for as long as the block takes; an error there gives it up."""
    made = Sending(job, target, following, emergency=emergency)
    try:
        yield made
    finally:
        made.give_up()


def send(
    job: Job, target: Store, make_chunks: Callable[[], Iterable[bytes]], retention_class: RetentionClass,
    before_commit: Callable[[], None] = lambda: None,
) -> StoredObject:  # fmt: skip
    """Stores under a fresh key; a key that is taken is left alone and another one used."""
    identifier = snapshot.snapshot_id(job.request.requested_at, job.request.op_id)
    metadata = {"trace-id": job.request.trace_id, "op-id": job.request.op_id, "cluster": job.cluster}
    for left in reversed(range(MOST_KEYS)):
        job.require_time()
        key = snapshot.data_key(retention_class, job.cluster, identifier, secrets.token_hex(4))
        try:
            stored = target.put(
                key, make_chunks(), metadata=metadata, journal=leftovers.Journal(job.folder),
                before_commit=before_commit,
            )  # fmt: skip
        except KeyTaken as error:
            if not left:
                raise
            emit(log, logging.WARNING, "snapshot.key_taken", f"{error}; trying another key", key=key)
            continue
        emit(
            log, logging.INFO, "snapshot.uploaded", f"{stored.size_bytes:,} bytes as {key} in {target.describe()}",
            key=key, size_bytes=stored.size_bytes, sha256=stored.sha256, stored=stored.stored,
        )  # fmt: skip
        return stored
    raise AssertionError("the last key either worked or raised")


def completed(draft: Manifest, stored: StoredObject, retention_class: RetentionClass) -> Manifest:
    """The manifest with what only the store can tell."""
    now = format_moment(datetime.now(UTC))
    return msgspec.structs.replace(
        draft, retention_class=retention_class,
        data=StoredData(stored.key, stored.size_bytes, stored.sha256, stored.version_id),
        checks=(*draft.checks, Check("stored", stored.stored, now)),
    )  # fmt: skip


def commit(job: Job, target: Store, manifest: Manifest) -> dict[str, Any]:
    """Writes the manifest under the condition that none is there; then, and only then, is it a backup."""
    key = snapshot.manifest_key(manifest.retention_class, job.cluster, manifest.snapshot_id)
    metadata = {"trace-id": manifest.trace_id, "op-id": manifest.op_id, "cluster": manifest.cluster}
    try:
        written = target.put_if_absent(key, snapshot.encode(manifest), metadata=metadata)
    except BaseException:
        _withdraw(target, key, manifest)
        raise
    if not written:
        other = snapshot.decode_manifest(target.read(key), key)
        emit(log, logging.WARNING, "manifest.exists", f"another node committed {other.snapshot_id} first", key=key)
        with contextlib.suppress(AgentError):  # without a manifest it is no backup, whether or not it is still there
            target.abandon(manifest.data.key, "")
        return output_of(other, target, already=True)
    emit(log, logging.INFO, "manifest.written", f"{manifest.snapshot_id} is a backup now", key=key)
    return output_of(manifest, target, already=False)


def _withdraw(target: Store, key: str, manifest: Manifest) -> None:
    """Gives the data up when its manifest is certainly not there; when in doubt it stays."""
    with contextlib.suppress(AgentError):
        if key not in target.keys(snapshot.manifest_folder(manifest.retention_class, manifest.cluster)):
            target.abandon(manifest.data.key, "")


def output_of(manifest: Manifest, target: Store, *, already: bool) -> dict[str, Any]:
    """What the result of a snapshot says."""
    return {
        "snapshot_id": manifest.snapshot_id,
        "retention_class": manifest.retention_class,
        "store": target.describe(),
        "key": manifest.data.key,
        "revision": manifest.revision,
        "raw_size_bytes": manifest.raw_size_bytes,
        "size_bytes": manifest.data.size_bytes,
        "checks": {check.level: check.outcome for check in manifest.checks},
        "stored": True,
        "already": already,
    }
