"""Cancellations: `cancel/<op_id>.<generation>.json`, kept until that generation has ended. A part of the spool."""

from pathlib import Path

from agent.adapters import files
from agent.domain import cancellation as cancellations
from agent.domain.cancellation import Cancellation
from agent.errors import BadInput

SUFFIX = ".json"


class Cancellations:
    """The folder `cancel/` of one spool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, cancellation: Cancellation) -> bool:
        """Puts it there, durable when it returns. False when that was asked before."""
        path = self._path(cancellation.op_id, cancellation.generation)
        return files.publish(path, cancellations.encode(cancellation))

    def find(self, op_id: str, generation: int) -> Cancellation | None:
        """The one for that generation, if it was asked for. One that can not be read counts for none."""
        path = self._path(op_id, generation)
        try:
            owner = self.folder.parent.stat().st_uid
            found = cancellations.decode(files.read_owned(path, owner=owner, most_bytes=cancellations.MOST_BYTES))
        except (FileNotFoundError, BadInput):
            return None
        return found if (found.op_id, found.generation) == (op_id, generation) else None

    def names(self) -> list[str]:
        """The file names, the oldest first."""
        return files.names_by_age(self.folder)

    def read(self, name: str) -> Cancellation:
        """The one of that file name. Raises BadInput when it is none."""
        op_id, _, generation = name.removesuffix(SUFFIX).partition(".")
        number = int(generation) if generation.isascii() and generation.isdigit() and len(generation) < 8 else 0
        found = self.find(op_id, number) if name == f"{op_id}.{number}{SUFFIX}" else None
        if found is None:
            raise BadInput(f"cancel/{name[:100]} is no cancellation", hint="use `etcd-agent ops cancel`")
        return found

    def drop(self, op_id: str, generation: int) -> None:
        """Removes it: that generation has ended."""
        self._path(op_id, generation).unlink(missing_ok=True)

    def _path(self, op_id: str, generation: int) -> Path:
        return self.folder / f"{op_id}.{generation}{SUFFIX}"
