"""A root folder of a stranger: its links are followed inside it, and whatever it holds, nothing else is reached."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import inside_root
from agent.adapters.held_folder import HeldFolder
from agent.errors import FileUnusable
from agent.privileged.program_copy import copy_program

pytestmark = pytest.mark.integration
MOST = 1024 * 1024


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must never be reached."""
    folder = tmp_path / "outside"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/etcdctl").write_text("outside")
    (folder / "secret").write_text("outside")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    return root


@pytest.fixture
def root(image: Path) -> Iterator[int]:
    descriptor = os.open(image, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def content(root: int, path: str) -> str:
    descriptor, _ = inside_root.open_regular(root, path, MOST)
    with os.fdopen(descriptor) as stream:
        return stream.read(64)


@pytest.mark.parametrize(
    "target",
    [
        "/etc/secret",
        "../etc/secret",
        "../../../../../../../etc/secret",
        "/bin/../etc/./secret",
        "//etc///secret",
        "hop",
    ],
)
def test_a_link_is_followed_inside_the_root(image: Path, root: int, target: str) -> None:
    (image / "etc").mkdir()
    (image / "etc/secret").write_text("inside")
    (image / "bin/hop").symlink_to("/folder/secret")
    (image / "folder").symlink_to("etc")
    (image / "bin/etcdctl").symlink_to(target)
    assert content(root, "/bin/etcdctl") == content(root, "bin/../bin/etcdctl") == "inside"


@pytest.mark.parametrize(
    "path", ["/bin/etcdctl", "/../outside/secret", "/bin/../../outside/secret", "../outside/secret"]
)
def test_no_link_and_no_dots_lead_out(image: Path, root: int, outside: Path, path: str) -> None:
    (image / "bin/etcdctl").symlink_to(outside / "secret")
    with pytest.raises(FileNotFoundError):
        content(root, path)


@pytest.mark.parametrize("target", ["/proc/self/root/etc/hostname", "/proc/1/root/etc/passwd", "/dev/fd/0"])
def test_the_kernels_own_links_lead_nowhere_else(image: Path, root: int, target: str) -> None:
    (image / "bin/etcdctl").symlink_to(target)
    with pytest.raises(OSError, match="No such file"):
        content(root, "/bin/etcdctl")


def test_a_magic_link_of_a_proc_inside_is_read_as_text(image: Path) -> None:
    """In a container /proc is there; /proc/self/root would be the host's when the kernel followed it."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = inside_root.resolve(host, "/proc/self/root")
        assert os.path.samestat(os.fstat(descriptor), os.fstat(host))  # "/", walked from the given root
        os.close(descriptor)
        with pytest.raises(OSError, match="No such file"):
            inside_root.resolve(host, f"/proc/self/fd/{host}/etc/../../fd/0")
    finally:
        os.close(host)


def test_a_loop_of_links_and_a_path_without_end_are_refused(image: Path, root: int) -> None:
    (image / "a").symlink_to("b")
    (image / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        inside_root.resolve(root, "/a")
    with pytest.raises(OSError, match="name too long"):
        inside_root.resolve(root, "/".join(["bin/.."] * 5000))
    deep = image
    for _ in range(80):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(OSError, match="name too long"):
        inside_root.resolve(root, "/d" * 80)


def test_a_walk_leaves_no_descriptor_open(image: Path, root: int) -> None:
    (image / "a").symlink_to("b")
    (image / "b").symlink_to("a")
    (image / "bin/etcdctl").write_text("x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("/a", "/bin/etcdctl", "/missing/x", "/bin/etcdctl/x", "/bin"):
        with contextlib.suppress(OSError):
            os.close(inside_root.resolve(root, path))
        with contextlib.suppress(OSError, ValueError):
            os.close(inside_root.open_regular(root, path, MOST)[0])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_no_regular_file_of_a_bounded_size_is_not_opened(image: Path, root: int) -> None:
    os.mkfifo(image / "bin/etcdctl")  # opened for reading without a writer, it would wait for ever
    with pytest.raises(ValueError, match="is a pipe"):
        content(root, "/bin/etcdctl")
    with pytest.raises(ValueError, match="is a folder"):
        content(root, "/bin")
    (image / "bin/etcdutl").touch()
    os.truncate(image / "bin/etcdutl", 10 * 1024**3)
    with pytest.raises(ValueError, match=r"has 10,737,418,240 bytes"):
        content(root, "/bin/etcdutl")


def test_a_device_is_not_opened(image: Path, root: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a device")
    os.mknod(image / "bin/etcdctl", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    with pytest.raises(ValueError, match="is a device"):
        content(root, "/bin/etcdctl")


def test_a_race_of_renames_never_leads_out(image: Path, root: int, outside: Path) -> None:
    """One swaps a folder for a link to the outside, and moves it out and in again, as fast as it can."""
    (image / "bin/etcdctl").write_text("inside")
    (image / "link").symlink_to(outside / "bin")
    (image / "etc").mkdir()
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            (image / "bin").rename(image / "away")
            (image / "link").rename(image / "bin")
            (image / "bin").rename(image / "link")
            (image / "away").rename(image.parent / "out")
            (image.parent / "out").rename(image / "bin")

    thread = threading.Thread(target=swap)
    thread.start()
    found: dict[str, int] = {}
    try:
        for number in range(3000):
            path = ("/bin/etcdctl", "/etc/../bin/etcdctl", "/bin/../../outside/secret", "/bin/../secret")[number % 4]
            try:
                told = content(root, path)
            except (FileNotFoundError, NotADirectoryError):
                told = "missing"
            found[told] = found.get(told, 0) + 1
    finally:
        ended.set()
        thread.join()
    assert set(found) == {"inside", "missing"}


def program_of_another_machine() -> bytes:
    start = bytearray(Path("/proc/self/exe").read_bytes()[:4096])
    start[18:20] = (0xBEEF).to_bytes(2, "little")
    return bytes(start)


@pytest.mark.parametrize(
    "made", [b"", b"\x7fELF", b"#!/bin/sh\nid\n", program_of_another_machine(), b"root:x:0:0::/root:/bin/sh\n"],
    ids=["empty", "cut off", "script", "another machine", "passwd"],
)  # fmt: skip
def test_what_is_no_program_for_this_machine_is_not_copied(image: Path, root: int, tmp_path: Path, made: bytes) -> None:
    (image / "bin/etcdctl").write_bytes(made)
    (tmp_path / "to").mkdir()
    with HeldFolder.open(tmp_path / "to") as to, pytest.raises(ValueError, match="is no program for this machine"):
        copy_program(root, "/bin/etcdctl", "etcdctl", to)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_held_folder_follows_no_link_and_replaces_no_link_target(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(FileUnusable, match="can not be opened as a folder"):
        HeldFolder.open(tmp_path / "link")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/name").symlink_to(outside / "secret")
    with HeldFolder.open(tmp_path / "own") as folder:
        with pytest.raises(FileExistsError):
            os.close(folder.create("name", 0o600))
        folder.write_atomic("name", b"new")
        assert (tmp_path / "own/name").read_bytes() == b"new"
        (tmp_path / "own").rename(tmp_path / "moved")
        (tmp_path / "own").symlink_to(outside)
        folder.write_atomic("name", b"newer")
    assert (tmp_path / "moved/name").read_bytes() == b"newer"
    assert {path.name for path in outside.iterdir()} == {"bin", "secret"}
    assert (outside / "secret").read_text() == "outside"
