"""What the suite `snapshots` changes in the agent's processes: shorter waits, and a point at each chunk of a stream."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

FIRST_WAIT_S = 0.02  # of the agent's back-off, of which each step doubles it
GIVE_UP_S = 1.5


class Injector(Protocol):
    """Who is told of the points."""

    def place_of(self, path: Any, folder_descriptor: int | None = None) -> str: ...

    def around(self, kind: str, place: str) -> AbstractContextManager[None]: ...


def patches(injector: Injector, patience_s: float) -> dict[str, Callable[[ModuleType], None]]:
    """What to change in which module after its import; so long the agent waits for a store that takes nothing more."""
    return {
        "agent.adapters.files": lambda module: _wrap_chunks(injector, module),
        "agent.adapters.s3_bucket": _shorten_back_off,
        "agent.operations.sending": lambda module: _shorten_waits(module, patience_s),
    }


def _wrap_chunks(injector: Injector, module: Any) -> None:
    original = module.write_stream

    def write_stream(path: Path, chunks: Iterable[bytes], **named: Any) -> Any:
        return original(path, _passing(injector, injector.place_of(path), chunks), **named)

    module.write_stream = write_stream


def _passing(injector: Injector, place: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        with injector.around("chunk", place):
            yield chunk


def _shorten_back_off(module: Any) -> None:
    original = module.Bucket.__init__

    def __init__(self: Any, config: Any, client: Any, first_wait_s: float) -> None:  # noqa: N807 - it is one
        original(self, config, client, FIRST_WAIT_S)

    module.Bucket.__init__ = __init__


def _shorten_waits(module: Any, patience_s: float) -> None:
    module.PATIENCE_S, module.GIVE_UP_S = patience_s, GIVE_UP_S
