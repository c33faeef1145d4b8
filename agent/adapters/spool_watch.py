"""Waking the daemon when a file appears: the only importer of `watchdog`. A part of the spool."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.logs import emit

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watch(folders: Sequence[Path], wake: Callable[[], None]) -> Iterator[None]:
    """Calls `wake` from another thread whenever a file appears in one of the folders.

    Events only wake; what counts is the scan of the folder. So a node whose inotify instances are used up (as many
    pods can do) is served by the scan alone. Watchdog is imported here so that `submit` starts fast.
    """
    from watchdog.events import FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Waker(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            wake()

    observer = Observer()
    for folder in folders:
        observer.schedule(Waker(), str(folder), event_filter=[FileCreatedEvent, FileMovedEvent])
    try:
        observer.start()
    except OSError as error:
        emit(log, logging.WARNING, "spool.unwatched", f"{folders[0].parent} can not be watched, only scanned: {error}")
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
