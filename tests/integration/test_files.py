"""Files: complete or absent, never half, never a stranger's, never through a link."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters import files
from agent.adapters.files_lock import remove_unused_lock
from agent.errors import BadInput, NoSpace
from tests.sandbox.processes import wait_until

pytestmark = pytest.mark.integration
Writer = Callable[[Path, bytes], object]
WRITERS: list[Writer] = [files.write_atomic, files.publish]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_atomic_write_replaces_and_publishing_never_does(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert files.publish(path, b"first")
    assert not files.publish(path, b"second")
    assert path.read_bytes() == b"first"
    files.write_atomic(path, b"third")
    assert path.read_bytes() == b"third"
    assert names(tmp_path) == ["record.json"]
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


@pytest.mark.parametrize("write", WRITERS)
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path, write: Writer) -> None:
    """A folder under the name makes the last step of the write fail."""
    target = tmp_path / "record.json"
    target.mkdir()
    (target / "inside").touch()
    if write is files.publish:
        assert not write(target, b"content")
    else:
        with pytest.raises(OSError, match=r"Is a directory|Not empty|exists"):
            write(target, b"content")
    assert names(tmp_path) == ["record.json"]


def test_a_write_into_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_atomic(tmp_path / "gone/record.json", b"content")


def test_readers_see_the_old_or_the_new_content_and_never_a_mixture(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    files.write_atomic(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            content = path.read_bytes()
            seen.add(content if content in contents else b"a mixture")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        files.write_atomic(path, contents[number % 2])
    done.set()
    reader.join()
    assert seen == set(contents)


def test_of_those_who_publish_at_once_one_does(tmp_path: Path) -> None:
    ready = threading.Barrier(8)
    outcomes: list[bool] = []

    def publish(number: int) -> None:
        ready.wait()
        outcomes.append(files.publish(tmp_path / "record.json", str(number).encode()))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1
    assert names(tmp_path) == ["record.json"]


def test_a_move_never_replaces_and_ends_what_a_crash_began(tmp_path: Path) -> None:
    source, target = tmp_path / "incoming", tmp_path / "running"
    source.write_bytes(b"request")
    assert files.move_without_overwrite(source, target)
    assert names(tmp_path) == ["running"]
    source.write_bytes(b"again")
    assert not files.move_without_overwrite(source, target)
    assert (source.read_bytes(), target.read_bytes()) == (b"again", b"request")
    with pytest.raises(FileNotFoundError):
        files.move_without_overwrite(tmp_path / "gone", tmp_path / "other")


def test_a_link_is_moved_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert files.move_without_overwrite(tmp_path / "link", tmp_path / "moved")
    assert (tmp_path / "moved").is_symlink()


def make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_large(path: Path) -> None:
    path.write_bytes(b"x" * 101)


def make_sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10**12)


@pytest.mark.parametrize(
    "make, why",
    [
        (make_link, "plain file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (make_large, "more than the 100 allowed"),
        (make_sparse, "more than the 100 allowed"),
    ],
    ids=["link", "folder", "fifo", "large", "sparse"],
)
def test_only_a_small_plain_file_is_read(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "request.json")
    with pytest.raises(BadInput, match=why):
        files.read_owned(tmp_path / "request.json", owner=os.geteuid(), most_bytes=100)


def test_a_file_of_just_the_allowed_size_is_read_and_a_strangers_is_not(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(b"x" * 100)
    assert files.read_owned(path, owner=os.geteuid(), most_bytes=100) == b"x" * 100
    with pytest.raises(BadInput, match=f"belongs to uid {os.geteuid()}, not to uid"):
        files.read_owned(path, owner=os.geteuid() + 1, most_bytes=100)
    with pytest.raises(FileNotFoundError):
        files.read_owned(tmp_path / "gone", owner=os.geteuid(), most_bytes=100)


def test_unfinished_writes_are_known_by_their_names() -> None:
    assert files.is_temporary(".record.json.0123abcd.tmp")
    assert not files.is_temporary("record.json")
    assert not files.is_temporary(".hidden")


def test_room_is_what_a_normal_user_has(tmp_path: Path) -> None:
    free = files.free_bytes(tmp_path)
    values = os.statvfs(tmp_path)
    assert 0 < free <= values.f_bfree * values.f_frsize
    files.require_free(tmp_path, 1)
    with pytest.raises(NoSpace, match="bytes free, this needs"):
        files.require_free(tmp_path, 10**18)


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = files.Lock(path), files.Lock(path)
    assert not files.is_locked(path)
    assert first.try_acquire("the first, with a long name")
    assert not second.try_acquire("second")
    assert files.is_locked(path)
    first.release()
    first.release()
    assert not files.is_locked(path)
    assert second.try_acquire()
    assert second.content() == "the first, with a long name"
    second.write("second")
    assert second.content() == "second"
    second.release()


HOLD = """
import sys, time
from pathlib import Path
from agent.adapters.files import Lock
assert Lock(Path(sys.argv[1])).try_acquire("held")
"""


def test_a_lock_ends_with_its_process_and_not_with_its_childrens(tmp_path: Path) -> None:
    """A child that outlives its parent must not keep the parent's lock: the descriptor is not inherited."""
    path = tmp_path / "lock"
    script = HOLD + "import subprocess\nsubprocess.Popen(['sleep', '60'], close_fds=False)\nprint('held', flush=True)\n"
    script += "time.sleep(60)\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert files.is_locked(path)
        holder.kill()
        holder.wait()
        assert not files.is_locked(path)
    finally:
        os.killpg(holder.pid, 9)
        assert holder.stdout is not None
        holder.stdout.close()


def test_asking_who_holds_a_lock_does_not_follow_links_and_makes_no_file(tmp_path: Path) -> None:
    assert not files.is_locked(tmp_path / "gone")
    assert names(tmp_path) == []
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        files.Lock(tmp_path / "link").try_acquire()
    assert names(tmp_path) == ["link"]


def test_two_who_only_ask_do_not_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not files.is_locked(path)


def test_a_lock_that_is_removed_is_never_held_twice(tmp_path: Path) -> None:
    """Takers and a remover at once: whoever holds the lock holds the one file under its name, and is alone."""
    path, holders, most = tmp_path / "lock", [0], [0]
    done = threading.Event()
    taken: list[int] = []

    def take(number: int) -> None:
        while not done.is_set():
            lock = files.Lock(path)
            if lock.try_acquire(str(number)):
                holders[0] += 1
                most[0] = max(most[0], holders[0])
                taken.append(number)
                time.sleep(0.001)
                holders[0] -= 1
                lock.release()

    def remove() -> None:
        while not done.is_set():
            remove_unused_lock(path)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    threads += [threading.Thread(target=remove) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(taken) > 500, "the lock is not taken often enough")
    done.set()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_a_lock_that_is_held_is_not_removed(tmp_path: Path) -> None:
    lock = files.Lock(tmp_path / "lock")
    assert remove_unused_lock(lock.path)
    assert lock.try_acquire()
    assert not remove_unused_lock(lock.path)
    lock.release()
    assert remove_unused_lock(lock.path)
    assert not lock.path.exists()


def test_a_file_that_the_disk_does_not_give_back_is_bad_input() -> None:
    with pytest.raises(BadInput, match="can not be read"):
        files.read_owned(Path("/proc/self/mem"), owner=os.geteuid(), most_bytes=100)  # its first page is never there
