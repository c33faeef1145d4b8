"""Reading a store: which backups there are. Only manifests count; a listing is complete or an error."""

import contextvars
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from agent.domain import snapshot
from agent.domain.snapshot import Backup, RetentionClass
from agent.errors import SnapshotInvalid, SnapshotNotFound
from agent.logs import emit
from agent.ports import Store

MOST_READS_AT_ONCE = 8
log = logging.getLogger(__name__)


def backups(
    store: Store, cluster: str, classes: Iterable[RetentionClass] = snapshot.RETENTION_CLASSES,
    *, wanted: Callable[[str], bool] = lambda identifier: True, damaged: list[SnapshotInvalid] | None = None,
) -> list[Backup]:  # fmt: skip
    """Every backup of a cluster whose id is wanted, the newest first, read some at a time. Raises the store's errors.

    A manifest that can not be read raises SnapshotInvalid, or is logged and added to `damaged` where that is given:
    what goes on without it must not be stopped by it, since a node can not remove it.
    """
    return snapshot.newest_first(
        backup for retention_class in classes for backup in _of_class(store, cluster, retention_class, wanted, damaged)
    )


def find(store: Store, cluster: str, identifier: str) -> Backup | None:
    """The backup of that id, in whatever class it is."""
    for retention_class in snapshot.RETENTION_CLASSES:
        keys = store.keys(snapshot.manifest_folder(retention_class, cluster))
        if snapshot.manifest_key(retention_class, cluster, identifier) in keys:
            return _load(store, cluster, retention_class, identifier, keys)
    return None


def newest_good(
    store: Store, cluster: str, *, damaged: list[SnapshotInvalid],
    wanted: Callable[[str], bool] = lambda identifier: True,
) -> Backup | None:  # fmt: skip
    """The newest good backup whose id is wanted. Reads from the newest on, nothing older: a listing may be long."""
    listed: dict[tuple[str, RetentionClass], list[str]] = {}
    for retention_class in snapshot.RETENTION_CLASSES:
        keys = store.keys(snapshot.manifest_folder(retention_class, cluster))
        listed |= {(identifier, retention_class): keys for identifier in filter(wanted, _ids(keys))}
    for identifier, retention_class in sorted(listed, reverse=True):
        keys = listed[identifier, retention_class]
        backup = _load_unless_damaged(store, cluster, retention_class, identifier, keys, damaged)
        if backup is not None and backup.is_good:
            return backup
    return None


def resolve(store: Store, cluster: str, wanted: str) -> Backup:
    """The backup that a person means: an id, or `latest` for the newest good one. Raises SnapshotNotFound."""
    found = newest_good(store, cluster, damaged=[]) if wanted == "latest" else find(store, cluster, wanted)
    if found is None:
        what = "no good snapshot" if wanted == "latest" else f"no snapshot {wanted}"
        raise SnapshotNotFound(
            f"{what} of cluster {cluster!r} in {store.describe()}",
            hint="`etcd-agent snapshot list` shows what there is",
        )
    return found


def _of_class(
    store: Store, cluster: str, retention_class: RetentionClass, wanted: Callable[[str], bool],
    damaged: list[SnapshotInvalid] | None,
) -> Iterator[Backup]:  # fmt: skip
    keys = store.keys(snapshot.manifest_folder(retention_class, cluster))
    with ThreadPoolExecutor(MOST_READS_AT_ONCE) as pool:
        pending = [
            # Threads inherit no context: each read gets a copy, so that its log lines carry the trace.
            pool.submit(
                contextvars.copy_context().run,
                _load_unless_damaged, store, cluster, retention_class, identifier, keys, damaged,
            )
            for identifier in filter(wanted, _ids(keys))
        ]  # fmt: skip
        try:
            yield from filter(None, (read.result() for read in pending))
        finally:
            pool.shutdown(cancel_futures=True)  # the first error ends the listing, not its last one


def _ids(keys: Iterable[str]) -> Iterator[str]:
    return filter(None, map(snapshot.id_of_manifest_key, keys))


def _load_unless_damaged(
    store: Store, cluster: str, retention_class: RetentionClass, identifier: str, keys: Iterable[str],
    damaged: list[SnapshotInvalid] | None,
) -> Backup | None:  # fmt: skip
    """None for a damaged one where `damaged` is given, which then has it, and for one that just expired."""
    try:
        return _load(store, cluster, retention_class, identifier, keys)
    except SnapshotInvalid as error:
        if damaged is None:
            raise
        emit(log, logging.ERROR, "manifest.damaged", f"goes on without {identifier}: {error}")
        damaged.append(error)
    except SnapshotNotFound:
        pass  # it expired after the listing
    return None


def _load(store: Store, cluster: str, retention_class: RetentionClass, identifier: str, keys: Iterable[str]) -> Backup:
    key = snapshot.manifest_key(retention_class, cluster, identifier)
    manifest = snapshot.decode_manifest(store.read(key), key)
    records = [
        snapshot.decode_verification(store.read(other), other)
        for other in keys
        if snapshot.id_of_verification_key(other) == identifier
    ]
    return Backup(manifest, tuple(records))
