"""What attempts that were killed left behind: snapshot files on disk and uploads in the store.

A folder of another operation is touched only while that one's lock is held and nothing of it waits or runs.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.errors import AgentError
from agent.logs import emit
from agent.operations.steps import Hold, Job, nobodys
from agent.ports import Store

JOURNAL_NAME = "upload.json"
log = logging.getLogger(__name__)


class Journal:
    """The upload of one attempt, on disk before its first part."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME

    def begin(self, key: str, upload_id: str) -> None:
        """Remembers an upload. A kill leaves what was remembered before, never half of it."""
        unfinished = self._path.with_name(f".{JOURNAL_NAME}.tmp")
        unfinished.write_text(json.dumps({"key": key, "upload_id": upload_id}))
        unfinished.replace(self._path)

    def clear(self) -> None:
        """Forgets it: it was completed, confirmed or aborted."""
        self._path.unlink(missing_ok=True)


def remove_files(work_root: Path, own: Path, hold: Hold = nobodys) -> None:
    """Frees the disk of what killed attempts wrote; their journals stay for `abandon_uploads`."""
    for unfinished in work_root.glob(".*.tmp"):  # of what a node remembers beside the attempts' folders
        unfinished.unlink(missing_ok=True)
    for folder in _attempt_folders(work_root, own, hold):
        if folder != own:
            _remove_all_but_journal(folder)
            _remove_if_empty(folder)


def abandon_uploads(work_root: Path, own: Path, store: Store, hold: Hold = nobodys) -> None:
    """Aborts the uploads of killed attempts; one that can not be aborted now is kept for the next time.

    To be called before an upload of our own starts: an earlier generation may have left a journal in our folder.
    """
    for folder in _attempt_folders(work_root, own, hold):
        if _abandon(folder, store) and folder != own:
            _remove_if_empty(folder)


def _abandon(folder: Path, store: Store) -> bool:
    """Whether the folder has no journal any more."""
    path = folder / JOURNAL_NAME
    try:
        journal = json.loads(path.read_text())
        store.abandon(str(journal["key"]), str(journal["upload_id"]))
    except AgentError as error:
        emit(log, logging.WARNING, "upload.left", f"an upload of a killed attempt stays for now: {error}")
        return False
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        pass  # killed while it wrote the journal, so before the first part
    else:
        emit(log, logging.INFO, "upload.abandoned", "aborted the upload of a killed attempt", key=journal["key"])
    path.unlink(missing_ok=True)
    return True


def give_uploads_up(job: Job, make_store: Callable[[], Store]) -> None:
    """Aborts the uploads of an operation that ends without another attempt; makes the store only if there are any."""
    folders = [folder for folder in _folders(job.work_root / job.request.op_id) if (folder / JOURNAL_NAME).exists()]
    store = make_store() if folders else None
    for folder in folders:
        if store is not None:
            _abandon(folder, store)


def remove_attempt(folder: Path) -> None:
    """Removes an attempt's folder, and its operation's when that was the last; a journal stays, with nothing else."""
    with contextlib.suppress(OSError):
        _remove_all_but_journal(folder)
    _remove_if_empty(folder)


@contextlib.contextmanager
def held_open(folder: Path) -> Iterator[None]:
    """What is removed of an attempt's files meanwhile has no name any more at once; its blocks are free afterwards.

    To free those of a large file takes a good part of a second, for which nobody need wait. A killed process too gives
    them back.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it costs time alone, and must never cost the result
            for path in folder.iterdir():
                with contextlib.suppress(OSError):
                    stack.enter_context(path.open("rb"))
        yield


def remove_operation(work_root: Path, op_id: str) -> None:
    """Removes what the attempts of an operation left that gets no further one; their journals stay."""
    with contextlib.suppress(OSError):
        for folder in list((work_root / op_id).iterdir()):
            remove_attempt(folder)
        (work_root / op_id).rmdir()  # empty already where a crash came between the two


def _attempt_folders(work_root: Path, own: Path, hold: Hold) -> Iterator[Path]:
    """Those of the own operation, and of others for as long as they are surely abandoned."""
    for operation in _folders(work_root):
        if operation == own.parent:
            yield from _folders(operation)
            continue
        with hold(operation.name) as is_abandoned:
            if is_abandoned:
                yield from _folders(operation)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _remove_all_but_journal(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != JOURNAL_NAME:
            path.unlink()


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
