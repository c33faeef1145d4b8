"""The newest good snapshot that this node sees: in the store, if it answers soon, and in its own outbox."""

import contextvars
import logging
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.domain import slots, snapshot
from agent.domain.request import parse_moment
from agent.domain.snapshot import Manifest
from agent.errors import AgentError, AwsUnavailable
from agent.logs import emit
from agent.operations import away_store, catalogue
from agent.operations.steps import Job
from agent.ports import Outbox, Store

PATIENCE_S = 15.0  # with a store that does not answer: then it is away
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Newest:
    """The newest snapshot by its id and moment (seconds since 1970), and why the store is away where it is."""

    snapshot_id: str
    moment_s: float | None
    away: AgentError | None


def look(job: Job, store: Store, outbox: Outbox, now_s: float, *, patience_s: float = PATIENCE_S) -> Newest:
    """What the store lists, and what this node keeps; a snapshot of a time to come does not count."""
    found: list[Manifest] = away_store.kept_here(outbox)
    away: AgentError | None = None
    try:
        stored = _in_time(lambda: _newest_stored(job, store, now_s), patience_s, store.describe())
        found += [stored] if stored is not None else []
    except AgentError as error:
        away = error
        emit(
            log, logging.WARNING, "schedule.store_away", f"what is in the store is not known now: {error.message}",
            error_code=error.code, error_message=error.message, error_hint=error.hint,
        )  # fmt: skip
    counted = [one for one in found if slots.counts(moment_s(one), now_s)]
    newest = max(counted, key=lambda one: one.snapshot_id, default=None)
    return Newest("", None, away) if newest is None else Newest(newest.snapshot_id, moment_s(newest), away)


def moment_s(manifest: Manifest) -> float:
    """The moment of its request, in seconds since 1970."""
    return parse_moment(manifest.requested_at).timestamp()


def _newest_stored(job: Job, store: Store, now_s: float) -> Manifest | None:
    newest = datetime.fromtimestamp(now_s + slots.MOST_SKEW_S, UTC)
    backup = catalogue.newest_good(
        store, job.cluster, damaged=[], wanted=lambda identifier: snapshot.moment_of_id(identifier) <= newest
    )
    return backup.manifest if backup is not None else None


def _in_time(ask: Callable[[], Manifest | None], patience_s: float, where: str) -> Manifest | None:
    """A thread of its own, which is left alone when it takes too long: this process ends soon."""
    pool = ThreadPoolExecutor(1, "newest")
    try:
        asked = pool.submit(contextvars.copy_context().run, ask)
        if not futures.wait([asked], patience_s).done:
            raise AwsUnavailable(f"{where} did not answer within {patience_s:g} s", hint="is the store reachable?")
        return asked.result()
    except OSError as error:
        raise AwsUnavailable(f"{where} can not be read: {error}", hint="is the store reachable?") from None
    finally:
        pool.shutdown(wait=False)
