"""What this node asks of itself by its own spool: one op id for each piece of work, again after it ended."""

import contextlib

from agent.adapters.spool import ENDS, Found, Spool
from agent.domain import attempts
from agent.domain.request import Record, Request
from agent.errors import BadInput
from agent.ports import Failures


class OwnRequests:
    """The requests of this node's own triggers. A record that is damaged counts as none, or nothing would follow it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def failures(self, op_id: str) -> Failures:
        """How many of its newest generations failed in a row."""
        end = None
        with contextlib.suppress(BadInput):
            end = self._spool.end_of(op_id)
        count, last_at = 0, ""
        for result in reversed(end.record.results if end else ()):
            if result.status == "succeeded":
                break
            count, last_at = count + 1, last_at or result.finished_at
        return Failures(count, last_at)

    def ask(self, request: Request) -> bool:
        """Puts it into the spool; False when it waits or runs already. Raises SpoolFull."""
        found = self._found(request.op_id)
        if found is None:
            return self._spool.submit(Record(request))
        if found.state not in ENDS:
            return False
        return self._spool.submit(attempts.next_generation(found.record, request))

    def _found(self, op_id: str) -> Found | None:
        try:
            return self._spool.find(op_id)
        except BadInput:
            return None
