"""Removing snapshots out of a directory store."""

from datetime import UTC, datetime
from pathlib import Path

from agent.adapters import files
from agent.adapters.directory import explained
from agent.ports import ObjectFacts


class DirectoryEraser:
    """Removes files below `folder`; nothing there is locked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def facts(self, key: str) -> ObjectFacts | None:
        """When the file was last changed. Raises StoreError."""
        try:
            changed_s = (self._folder / key).lstat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explained(error, self._folder) from error
        return ObjectFacts(datetime.fromtimestamp(changed_s, UTC), None)

    def remove(self, key: str) -> None:
        """Removes the file, durably when it returns. Raises StoreError."""
        path = self._folder / key
        try:
            path.unlink(missing_ok=True)
            files.sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise explained(error, self._folder) from error
