"""What this node asks of itself by its own spool: one op id for each piece of work, again after it ended."""

from agent.adapters.spool import ENDS, Spool
from agent.domain.request import Record, Request
from agent.ports import Failures

RESULTS_CARRIED = 10


class OwnRequests:
    """The requests of this node's own triggers."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def failures(self, op_id: str) -> Failures:
        """How many of its newest generations failed in a row. Raises BadInput when its record is damaged."""
        end = self._spool.end_of(op_id)
        count, last_at = 0, ""
        for result in reversed(end.record.results if end else ()):
            if result.status == "succeeded":
                break
            count, last_at = count + 1, last_at or result.finished_at
        return Failures(count, last_at)

    def ask(self, request: Request) -> bool:
        """Puts it into the spool; False when it waits or runs already. Raises SpoolFull, BadInput."""
        found = self._spool.find(request.op_id)
        if found is None:
            return self._spool.submit(Record(request))
        if found.state not in ENDS:
            return False
        record = found.record
        return self._spool.submit(Record(request, record.generation + 1, results=record.results[-RESULTS_CARRIED:]))
