"""A file read while it is written: whole and in order however it grows, and nothing comes of one that was given up."""

import hashlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SnapshotInvalid
from agent.operations.following import Following, GivenUp
from agent.operations.inspection import RawFile, TrailerDigest, check_trailer
from tests.sandbox.processes import wait_until
from tests.unit.fakes import snapshot_bytes

CONTENT, OTHER = snapshot_bytes(pages=40), snapshot_bytes(pages=40, fill=b"other keys ")
WHOLE = RawFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Reader:
    """A thread that reads to the end."""

    def __init__(self, following: Following) -> None:
        self.got = bytearray()
        self._pool = ThreadPoolExecutor(1)
        self.done: Future[None] = self._pool.submit(self._read, following)

    def _read(self, following: Following) -> None:
        for chunk in following.chunks():
            self.got += chunk


def read_to_its_end(path: Path, content: bytes = CONTENT) -> Following:
    """As it is when all of the file was sent."""
    following = Following(path)
    path.write_bytes(content)
    following.written()
    assert b"".join(following.chunks()) == content
    return following


def grow(path: Path, pieces: list[bytes], after_each: Callable[[], None] = lambda: None) -> None:
    """As etcdctl writes: `.part` from start to end, then the rename."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb", buffering=0) as stream:
        for piece in pieces:
            stream.write(piece)
            after_each()
    part.rename(path)


@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=12))
def test_the_digest_is_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    digest = TrailerDigest()
    edges = [0, *sorted(cuts), len(CONTENT)]
    for start, end in itertools.pairwise(edges):
        digest.update(CONTENT[start:end])
    assert digest.finished().size_bytes == len(CONTENT)


@given(position=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7), cut=st.integers(1, 300))
def test_any_altered_bit_is_noticed_however_it_is_cut(position: int, bit: int, cut: int) -> None:
    altered = bytearray(CONTENT)
    altered[position] ^= 1 << bit
    digest = TrailerDigest()
    for start in range(0, len(altered), cut):
        digest.update(bytes(altered[start : start + cut]))
    with pytest.raises(SnapshotInvalid):
        digest.finished()


@pytest.mark.parametrize("step_bytes", [7, 32, 1000, 20_000_000])
def test_a_growing_file_is_read_whole_while_it_grows(tmp_path: Path, step_bytes: int) -> None:
    path = tmp_path / "snapshot.db"
    following = Following(path)
    reader = Reader(following)
    step_bytes = min(step_bytes, len(CONTENT))
    pieces = [CONTENT[start : start + step_bytes] for start in range(0, len(CONTENT), step_bytes)]
    seen = threading.Event()

    def look() -> None:
        if not seen.is_set():
            wait_until(lambda: len(reader.got) > 0, "nothing is read before the end")
            seen.set()

    grow(path, pieces, look)
    following.written()
    reader.done.result(timeout=20)
    assert bytes(reader.got) == CONTENT
    assert following.raw(0) == check_trailer(path)


def test_a_file_that_was_whole_before_anybody_looked_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.db"
    grow(path, [CONTENT])
    following = Following(path)
    following.written()
    assert b"".join(following.chunks()) == CONTENT
    assert b"".join(following.chunks()) == CONTENT


def test_a_writer_that_pauses_does_not_end_the_reader(tmp_path: Path) -> None:
    part = tmp_path / "snapshot.db.part"
    part.write_bytes(CONTENT[:5000])
    following = Following(tmp_path / "snapshot.db")
    reader = Reader(following)
    wait_until(lambda: len(reader.got) == 5000, "the first bytes are not read")
    assert following.raw(0.05) is None
    assert not reader.done.done()
    following.give_up()
    with pytest.raises(GivenUp):
        reader.done.result(timeout=20)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-512], CONTENT[:-32] + bytes(32), b""])
def test_what_does_not_have_its_trailer_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "snapshot.db"
    grow(path, [content])
    following = Following(path)
    following.written()
    assert b"".join(following.chunks()) == content
    with pytest.raises(SnapshotInvalid):
        following.raw(0)


def test_nobody_commits_before_it_is_verified(tmp_path: Path) -> None:
    following = read_to_its_end(tmp_path / "snapshot.db")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(following.await_verified)
        assert not waiting.done()
        following.verified(WHOLE)
        waiting.result(timeout=20)
        following.give_up()  # too late: it may be committed already
        following.await_verified()


def test_what_is_verified_and_given_up_before_anybody_commits_it_is_not_committed(tmp_path: Path) -> None:
    following = read_to_its_end(tmp_path / "snapshot.db")
    following.verified(WHOLE)
    following.give_up()
    with pytest.raises(GivenUp):
        following.await_verified()


@pytest.mark.parametrize("sent", [OTHER, CONTENT[:-32] + bytes(32)], ids=["other bytes", "a wrong trailer"])
def test_other_bytes_than_were_verified_are_not_committed(tmp_path: Path, sent: bytes) -> None:
    following = read_to_its_end(tmp_path / "snapshot.db", sent)
    following.verified(WHOLE)
    with pytest.raises(SnapshotInvalid, match="checksum" if sent != OTHER else "not those that were verified"):
        following.await_verified()


@pytest.mark.parametrize("written", [False, True])
def test_nobody_commits_what_was_given_up(tmp_path: Path, written: bool) -> None:
    following = Following(tmp_path / "snapshot.db")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(following.await_verified)
        if written:
            following.written()
        following.give_up()
        with pytest.raises(GivenUp):
            waiting.result(timeout=20)
    with pytest.raises(GivenUp):
        next(following.chunks())
