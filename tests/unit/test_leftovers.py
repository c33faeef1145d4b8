import contextlib
import errno
from pathlib import Path

import pytest

from agent.operations import leftovers


def open_files() -> list[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            links.append(str(descriptor.readlink()))
    return links


def test_a_removed_file_is_gone_by_name_at_once_and_freed_when_nobody_waits_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "op" / "1"
    folder.mkdir(parents=True)
    (folder / "snapshot.db").write_bytes(b"x" * 4096)
    with leftovers.held_open(folder):
        leftovers.remove_attempt(folder)
        assert not (tmp_path / "op").exists()
        assert f"{folder}/snapshot.db (deleted)" in open_files()
    assert f"{folder}/snapshot.db (deleted)" not in open_files()


def test_a_folder_that_is_not_there_has_nothing_to_hold(tmp_path: Path) -> None:
    with leftovers.held_open(tmp_path / "none"):
        pass


def test_a_folder_that_can_not_be_listed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> list[Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", fail)
    with leftovers.held_open(tmp_path):
        pass
