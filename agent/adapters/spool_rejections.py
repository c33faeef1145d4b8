"""What was no valid request: put aside in `rejected/`, with the reason beside it. A part of the spool."""

import json
import os
import secrets
from pathlib import Path

from agent.adapters import files

SUFFIX = ".json"
REASON_SUFFIX = ".reason.json"


class Rejections:
    """The folder `rejected/` of one spool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, source: Path, reason: str, now: str) -> None:
        """Moves a file, whatever it is, here and writes down why."""
        name = source.name
        kept = f"{os.fsdecode(os.fsencode(name)[:100])}.{secrets.token_hex(4)}"
        try:
            os.link(source, self._folder / kept, follow_symlinks=False)
            source.unlink()
        except FileNotFoundError:
            if not os.path.lexists(source):
                return  # it went on meanwhile
            raise
        except OSError:  # a folder, or a stranger's file that we may not link
            source.rename(self._folder / kept)
        files.write_atomic(
            self._folder / f"{kept}{REASON_SUFFIX}",
            json.dumps({"name": name, "reason": reason, "rejected_at": now}).encode() + b"\n",
        )

    def trim(self, most: int) -> None:
        """Removes the oldest ones above that number, each with its reason."""
        kept: dict[str, list[str]] = {}  # a rejection's two names, in the order in which they were rejected
        for name in files.names_by_age(self._folder):
            key = name.removesuffix(REASON_SUFFIX)
            kept[key] = [*(kept.pop(key, [])), name]
        for key in list(kept)[: max(0, len(kept) - most)]:
            for name in kept[key]:
                files.remove_whole(self._folder / name)

    def all(self) -> list[dict[str, str]]:
        """What was rejected, the oldest first: `name`, `reason`, `rejected_at`."""
        names = [name for name in files.names_by_age(self._folder) if name.endswith(REASON_SUFFIX)]
        return [told for name in names if (told := files.read_object(self._folder / name))]

    def last(self, op_id: str) -> str:
        """Why the last request of that id was rejected, "" when none was."""
        reasons = [told.get("reason", "") for told in self.all() if told.get("name") == f"{op_id}{SUFFIX}"]
        return reasons[-1] if reasons else ""
