"""Cancellations: each is kept until its operation has ended, and sees to it that it does."""

import logging

from agent.adapters.spool import Spool
from agent.domain import cancellation
from agent.domain.cancellation import Cancellation
from agent.domain.request import Record
from agent.errors import BadInput
from agent.logs import emit
from agent.outcome import now
from agent.recovery import Recovery
from agent.workers import Workers, bound_to, going_on

log = logging.getLogger(__name__)


class Cancelling:
    """The folder `cancel/` of one node."""

    def __init__(self, *, spool: Spool, workers: Workers, recovery: Recovery) -> None:
        self._spool = spool
        self._workers = workers
        self._recovery = recovery

    def look(self) -> None:
        """Asks workers to end whose operation is to be cancelled, and ends what only waits for its slot.

        What lies in `running/` without a worker, or is parked, is ended where those are looked after.
        """
        for name in self._spool.cancellations.names():
            with going_on(f"cancel/{name[:100]}"):
                try:
                    asked = self._spool.cancellations.read(name)
                except BadInput as error:
                    emit(
                        log, logging.ERROR, "request.rejected", f"rejected cancel/{name[:100]!r}: {error}",
                        error_code=error.code, error_message=error.message, error_hint=error.hint,
                    )  # fmt: skip
                    self._spool.reject(name, error.message, now(), state="cancel")
                    continue
                self._apply(asked)

    def _apply(self, asked: Cancellation) -> None:
        op_id = asked.op_id
        for state in ("running", "waiting", "incoming"):
            try:
                record = self._spool.read(state, op_id)
            except (FileNotFoundError, BadInput):
                continue
            if record.generation == asked.generation and not self._spool.ended(op_id, asked.generation):
                with bound_to(record):
                    if state == "running" and not record.committed:
                        self._ask_its_worker(op_id)
                    elif state == "incoming":
                        fresh = Record(record.request, record.generation, results=record.results)
                        failure = cancellation.failure(fresh, asked)
                        self._recovery.end(fresh, failure, cancel_trace_id=asked.trace_id)
                        self._spool.drop_incoming(op_id)
                return
        self._spool.cancellations.drop(op_id, asked.generation)

    def _ask_its_worker(self, op_id: str) -> None:
        for running in self._workers.attempts.values():
            if running.op_id == op_id:
                running.ask_to_end()
