"""Defects of storing, keeping and shipping that can be put into the agent on purpose, for the suite `snapshots`."""

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import Any


def _completes_unverified(module: Any) -> None:
    """The store completes the object as soon as all of it is sent, whatever the verification will say."""

    def await_verified(self: Any) -> None:
        self._become("committing")

    module.Following.await_verified = await_verified


def _uploads_stay(module: Any) -> None:
    """The journal of a killed attempt is removed, its upload is not."""

    def abandon(folder: Any, store: Any) -> bool:
        (folder / module.JOURNAL_NAME).unlink(missing_ok=True)
        return True

    module._abandon = abandon


def _leaves_outbox_first(module: Any) -> None:
    """What is kept leaves the outbox before it is in the store."""
    original = module._store

    def store(job: Any, ports: Any, kept: Any, *arguments: Any) -> None:
        with ports.outbox.open(kept.snapshot_id) as chunks:
            ports.outbox.remove(kept.snapshot_id)  # the open descriptor still reads
            held = _Held(list(chunks))
            original(job, module.ShipPorts(ports.store, held), kept, *arguments)

    module._store = store


class _Held:
    """An outbox in memory, of one snapshot."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def open(self, snapshot_id: str) -> Any:
        return contextlib.nullcontext(iter(self._chunks))


def _refusal_counts_as_written(module: Any) -> None:
    """A manifest that the store refuses is taken for one that is there."""
    original = module.S3Store.put_if_absent

    def put_if_absent(self: Any, key: str, content: bytes, *, metadata: Any) -> bool:
        try:
            return bool(original(self, key, content, metadata=metadata))
        except module.AwsRefused:
            return True

    module.S3Store.put_if_absent = put_if_absent


SABOTAGES: dict[str, dict[str, Callable[[ModuleType], None]]] = {
    "completed-before-verified": {"agent.operations.following": _completes_unverified},
    "uploads-stay": {"agent.operations.leftovers": _uploads_stay},
    "outbox-emptied-before-shipped": {"agent.operations.outbox": _leaves_outbox_first},
    "refused-manifest-counts": {"agent.adapters.s3": _refusal_counts_as_written},
}
