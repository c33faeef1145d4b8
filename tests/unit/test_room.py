"""Room on the disks: a floor stays free where etcd's data lie, and the outbox gives way before anything is refused."""

import errno
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.adapters.outbox import OutboxFolder
from agent.domain.outbox import Bounds
from agent.domain.snapshot import StoredData
from agent.errors import NoSpace
from agent.operations.room import Disks, Room
from tests.unit.test_outbox_domain import GOOD

ETCD, OTHER_DISK = 1, 2
WORK, BOX, STORE, DATA = Path("/a/work"), Path("/a/outbox"), Path("/a/store"), Path("/var/lib/etcd")
FLOOR = 1000


@dataclass
class Machine:
    """Folders on two disks; what the outbox gives up becomes free where it lies."""

    box: OutboxFolder
    free: dict[int, int] = field(default_factory=lambda: {ETCD: 5000, OTHER_DISK: 5000})
    devices: dict[Path, int] = field(default_factory=lambda: {DATA: ETCD, WORK: ETCD, BOX: ETCD, STORE: ETCD})
    store: Path | None = STORE
    floor_bytes: int = FLOOR
    unseen: OSError | None = None
    kept_at_first: int = 0

    def device(self, path: Path) -> int:
        if path == DATA and self.unseen is not None:
            raise self.unseen
        if path not in self.devices:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.devices[path]

    def free_bytes(self, folder: Path) -> int:
        device = self.device(folder)
        given_up = self.kept_at_first - sum(one.size_bytes for one in self.box.kept())
        return self.free[device] + (given_up if device == self.devices[BOX] else 0)

    @property
    def room(self) -> Room:
        disks = Disks(self.device, DATA, BOX, self.store, self.floor_bytes)
        return Room(self.free_bytes, self.box, disks)

    def keep(self, *names: str, size_bytes: int = 100) -> None:
        for name in names:
            self.box.write(name, [b"x" * size_bytes])
            manifest = msgspec.structs.replace(GOOD.manifest, data=StoredData("", size_bytes, ""))
            self.box.commit(name, msgspec.structs.replace(GOOD, manifest=manifest))
        self.kept_at_first = sum(one.size_bytes for one in self.box.kept())

    def kept(self) -> list[str]:
        return [one.snapshot_id for one in self.box.kept()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(OutboxFolder(tmp_path, Bounds(9, 10**9)))


def takes(machine: Machine, needed: int = 1200, stored: int = 1000, *, may_drop: bool = True) -> None:
    machine.room.require(WORK, needed, "a snapshot of 1,000 bytes", stored_bytes=stored, may_drop=may_drop)


def test_on_etcds_disk_file_store_and_floor_must_fit_to_the_byte(machine: Machine) -> None:
    machine.free[ETCD] = 1200 + 1000 + FLOOR
    takes(machine)
    machine.free[ETCD] -= 1
    with pytest.raises(NoSpace) as caught:
        takes(machine)
    message = caught.value.message
    assert all(text in message for text in ("/a/work has 3,199", "needs 2,200", "1,000 must stay", "/var/lib/etcd"))
    assert "snapshot.etcd_disk_floor_bytes" in caught.value.hint


def test_a_store_elsewhere_or_none_on_disk_needs_no_room_there(machine: Machine) -> None:
    machine.free[ETCD] = 1200 + FLOOR
    machine.devices[STORE] = OTHER_DISK
    takes(machine)
    machine.store = None
    takes(machine)


def test_on_another_disk_only_what_is_written_must_fit(machine: Machine) -> None:
    machine.devices |= {WORK: OTHER_DISK, STORE: OTHER_DISK, BOX: OTHER_DISK}
    machine.free = {ETCD: 0, OTHER_DISK: 1200}
    takes(machine)
    machine.free[OTHER_DISK] -= 1
    with pytest.raises(NoSpace, match=r"needs 1,200\Z"):
        takes(machine)


def test_a_store_alone_on_etcds_disk_leaves_the_floor_there(machine: Machine) -> None:
    machine.devices |= {WORK: OTHER_DISK}
    machine.free = {ETCD: 1000 + FLOOR, OTHER_DISK: 1200}
    takes(machine)
    machine.free[ETCD] -= 1
    with pytest.raises(NoSpace, match="/a/store has 1,999"):
        takes(machine)


def test_a_write_ahead_log_on_a_disk_of_its_own_is_etcds_too(machine: Machine) -> None:
    machine.devices |= {DATA: OTHER_DISK, DATA / "member/wal": ETCD}
    machine.free[ETCD] = 1200 + 1000 + FLOOR - 1
    with pytest.raises(NoSpace):
        takes(machine)


def test_a_folder_that_is_to_be_made_counts_where_it_would_be(machine: Machine) -> None:
    machine.devices = {DATA: ETCD, BOX: ETCD, Path("/a"): ETCD}
    machine.free[ETCD] = 1200 + 1000 + FLOOR - 1
    with pytest.raises(NoSpace):
        takes(machine)


def test_the_oldest_kept_go_first_and_no_more_than_is_needed(machine: Machine) -> None:
    machine.keep("20260101", "20260102", "20260103")
    machine.free[ETCD] = 1200 + 1000 + FLOOR - 100
    takes(machine)
    assert machine.kept() == ["20260102", "20260103"]


def test_the_newest_verified_copy_stays_and_the_snapshot_is_refused(machine: Machine) -> None:
    machine.keep("20260101", "20260102")
    machine.free[ETCD] = FLOOR - 101
    with pytest.raises(NoSpace):
        takes(machine)
    assert machine.kept() == ["20260102"]  # the floor was short already: etcd needs it, snapshot or not


def test_copies_that_would_go_for_nothing_stay(machine: Machine) -> None:
    machine.keep("20260101", "20260102")
    machine.free[ETCD] = 1200 + 1000 + FLOOR - 101
    with pytest.raises(NoSpace):
        takes(machine)
    assert machine.kept() == ["20260101", "20260102"]


def test_copies_on_another_disk_or_of_no_use_to_a_dry_run_stay(machine: Machine) -> None:
    machine.keep("20260101", "20260102")
    machine.free[ETCD] = 1200 + 1000 + FLOOR - 100
    with pytest.raises(NoSpace):
        takes(machine, may_drop=False)
    machine.devices[BOX] = OTHER_DISK
    with pytest.raises(NoSpace):
        takes(machine)
    assert machine.kept() == ["20260101", "20260102"]


def test_a_disk_that_can_not_be_seen_is_told_and_todays_rule_holds(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.unseen = PermissionError(errno.EACCES, "Permission denied", str(DATA))
    machine.free[ETCD] = 1200
    takes(machine)
    (record,) = caplog.records
    assert (record.event, record.path) == ("disk.not_seen", str(DATA))  # type: ignore[attr-defined]
    assert "Permission denied" in record.getMessage()


def test_a_floor_of_none_looks_at_nothing(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.unseen = PermissionError(errno.EACCES, "Permission denied", str(DATA))
    machine.floor_bytes, machine.free[ETCD] = 0, 1200
    takes(machine)
    assert not caplog.records


def test_what_is_kept_stops_at_the_floor_after_older_copies_went(machine: Machine) -> None:
    machine.keep("20260101", "20260102")
    machine.free[ETCD] = FLOOR + 300

    def written() -> list[bytes]:
        taken = []
        for chunk in machine.room.guarded(b"x" * 100 for _ in range(9)):
            taken.append(chunk)
            machine.free[ETCD] -= len(chunk)
        return taken

    with pytest.raises(NoSpace, match="keeping the snapshot here"):
        written()
    assert machine.free_bytes(BOX) == FLOOR
    assert machine.kept() == ["20260102"]
    machine.devices[BOX] = OTHER_DISK
    assert len(written()) == 9
