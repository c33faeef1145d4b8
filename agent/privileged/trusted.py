"""What root may go by: a file that nobody but root can write or put in its place."""

import contextlib
import os
import stat
from pathlib import Path

from agent.errors import ConfigError

ROOT = 0


def require_trusted(path: Path) -> None:
    """Raises ConfigError when somebody else owns or may write the file or its folder; a missing one is no harm."""
    for each in dict.fromkeys((path, path.parent, path.resolve(), path.resolve().parent)):
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            others = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)
            if status.st_uid not in (ROOT, os.geteuid()) or status.st_mode & others:
                raise ConfigError(
                    f"{each} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}: "
                    "others than root could write it, so the root service does not go by it",
                    hint=f"`chown root:root {each}; chmod go-w {each}`, after a look at what is in it",
                )
