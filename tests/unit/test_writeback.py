import os
import threading
from pathlib import Path

import pytest

from agent.operations.writeback import STRIDE_BYTES, Writeback


class Disk:
    """Stands for fdatasync: tells of each call and ends it when it is allowed to."""

    def __init__(self) -> None:
        self.called, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.descriptors: list[int] = []
        self.error: OSError | None = None

    def sync(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)
        self.called.release()
        assert self.may_end.acquire(timeout=10)
        if self.error:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "fdatasync", disk.sync)
    return disk


def test_little_is_left_to_the_one_sync_at_the_end(disk: Disk) -> None:
    with Writeback(7) as written:
        written.reached(STRIDE_BYTES - 1)
    assert disk.descriptors == []


def test_one_sync_for_each_stride(disk: Disk) -> None:
    for _ in range(3):
        disk.may_end.release()
    with Writeback(7) as written:
        for number in (1, 2, 3):
            written.reached(number * STRIDE_BYTES)
            assert disk.called.acquire(timeout=10)
            written.settle()
            written.reached(number * STRIDE_BYTES + 1)
    assert disk.descriptors == [7, 7, 7]


def test_nobody_waits_while_the_disk_is_slow_and_no_second_sync_queues_up(disk: Disk) -> None:
    with Writeback(7) as written:
        written.reached(STRIDE_BYTES)
        assert disk.called.acquire(timeout=10)
        for number in range(2, 50):
            written.reached(number * STRIDE_BYTES)
        disk.may_end.release()
        written.settle()
        disk.may_end.release()
        written.reached(50 * STRIDE_BYTES)
        assert disk.called.acquire(timeout=10)
    assert len(disk.descriptors) == 2


def test_a_disk_that_fails_is_told_by_the_writer_whose_sync_counts(disk: Disk) -> None:
    disk.error = OSError(5, "Input/output error")
    disk.may_end.release()
    with Writeback(7) as written:
        written.reached(STRIDE_BYTES)
    assert disk.descriptors == [7]


def test_a_real_file_is_synced(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 4096)
    with path.open("rb") as stream, Writeback(stream.fileno()) as written:
        written.reached(STRIDE_BYTES)
        written.settle()
        assert os.fstat(stream.fileno()).st_size == 4096
