"""A daemon that claims what lies in a spool and ends it at once with the result that a test wants."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.files import Lock
from agent.adapters.spool import SUFFIX, Spool
from agent.domain.request import Record, Request, Result

POLL_S = 0.01
Answer = Callable[[Record], Result | None]


@dataclass
class StandIn:
    """What it was asked; `answer` gives an operation's result, or None to leave it running."""

    spool: Spool
    answer: Answer
    asked: list[Request] = field(default_factory=list)

    def look(self) -> None:
        """Claims what is there, and ends it."""
        for name in self.spool.names("incoming"):
            op_id = name.removesuffix(SUFFIX)
            record = self.spool.read("incoming", op_id)
            self.asked.append(record.request)
            self.spool.claim(op_id)
            result = self.answer(record)
            if result is not None:
                self.spool.finish(Record(record.request, record.generation, 1, None, (*record.results, result)))


@contextlib.contextmanager
def running(root: Path, answer: Answer) -> Iterator[StandIn]:
    """Serves below an ETCD_AGENT_ROOT until the block ends, holding the daemon's lock."""
    spool = Spool(root / "var/lib/etcd-agent/spool")
    spool.create()
    lock = Lock(root / "run/etcd-agent/daemon.lock")
    lock.path.parent.mkdir(parents=True, exist_ok=True)
    assert lock.try_acquire()
    stand_in, ended = StandIn(spool, answer), threading.Event()

    def serve() -> None:
        while not ended.wait(POLL_S):
            stand_in.look()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield stand_in
    finally:
        ended.set()
        thread.join()
        lock.release()
