"""Which process the tools are copied from: a real etcd in a container's root folder, and everything that is not it."""

import hashlib
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import trace
from agent.adapters import proc
from agent.adapters.etcd_tools import EtcdTools
from agent.adapters.root_service import RootServiceDoor
from agent.domain.root_request import COPY_TOOLS, RootResult
from tests.integration.root_node import RootNode
from tests.sandbox.container_root import PROGRAMS, etcd_command, make_image
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Child, Processes, wait_until
from tests.setup import etcd

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOLDER = """
import os, socket, sys
port, path, forks = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", port)) if port else None
held = open(path) if path else None
reading, writing = os.pipe()
if forks and os.fork() == 0:
    os.close(writing)
    os.read(reading, 1)  # until the other one ends, however it does
    os._exit(0)
print("holds", flush=True)
import signal; signal.pause()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces and another root folder")
    if "3.5" not in etcd.present():
        pytest.skip("etcd 3.5 is not in the cache; `make etcd` fetches it")
    for tool in ("unshare", "chroot", "mount", "ip"):
        if shutil.which(tool, path=SYSTEM_PATH) is None:
            pytest.skip(f"{tool} is missing: install the packages util-linux, coreutils, mount and iproute2")
    if subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode != 0:
        pytest.skip("namespaces can not be made here: run the tests on a machine with all rights of root")
    folder = tmp_path_factory.mktemp("image")
    make_image(folder, "3.5")
    return folder


@dataclass
class Place:
    """A node, and etcd where a test wants it."""

    node: RootNode
    folder: Path
    image: Path
    processes: Processes

    def start_etcd(
        self, name: str, *, image: Path | None = None, port: int = 0, own_network: bool = False, program: str = "etcd"
    ) -> "Etcd":
        data, port = self.folder / name, port or free_port()
        data.mkdir(mode=0o700)
        url, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
        command = etcd_command(image or self.image, data, url, peer, own_network=own_network, program=program)
        child = self.processes.start(name, command, {"PATH": SYSTEM_PATH})
        started = Etcd(child, data, port, url)
        wait_until((data / "member/snap/db").exists, f"{name} has no database", child=child)
        if not own_network:
            wait_until(lambda: listens(port), f"{name} does not listen", child=child)
        return started

    def hold(self, name: str, *, port: int = 0, path: Path | None = None, forks: bool = False) -> Child:
        """A process that is no etcd, with a listening socket, an open file, or both."""
        argv = [sys.executable, "-c", HOLDER, str(port), str(path or ""), str(int(forks))]
        child = self.processes.start(name, argv)
        wait_until(lambda: "holds" in child.tail(), f"{name} holds nothing", child=child)
        return child

    def ask(self, url: str, data: Path, identifier: str = "copy-tools-0001") -> RootResult:
        self.node.configure(f'[etcd]\nendpoints = ["{url}"]\ndata_dir = "{data}"\n')
        self.node.put(identifier)
        self.node.serve()
        return self.node.result(identifier)

    def refusal(self, url: str, data: Path, identifier: str = "copy-tools-0001") -> str:
        """Why nothing was copied; nothing is left of a copy then."""
        result = self.ask(url, data, identifier)
        assert result.error is not None
        assert result.error.code in ("etcd_process_unclear", "etcd_tools_missing"), result.error
        assert list(self.node.tools.iterdir()) == []
        return result.error.message


@dataclass
class Etcd:
    """A running etcd, with its data folder on the host."""

    child: Child
    data: Path
    port: int
    url: str


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def place(tmp_path: Path, image: Path) -> Iterator[Place]:
    with Processes(tmp_path / "logs") as processes:
        yield Place(RootNode(tmp_path / "node"), tmp_path, image, processes)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def requires_whole(node: RootNode) -> bool:
    """Whether a copy is pinned; what is pinned must be whole."""
    if not (node.tools / "pinned.json").exists():
        return False
    pinned = node.pin()
    for tool in pinned["tools"]:
        path = node.tools / pinned["folder"] / tool["name"]
        assert sha256(path) == tool["sha256"]
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o755, 0)
    return True


def test_the_agent_gets_tools_that_run_out_of_the_container(place: Place) -> None:
    real = place.start_etcd("etcd")
    place.node = RootNode(place.folder / "node-of-one", one_user=True)  # the agent is this process
    place.node.configure(f'[etcd]\nendpoints = ["{real.url}"]\ndata_dir = "{real.data}"\n')
    door = RootServiceDoor(place.node.paths.spool)
    tools = EtcdTools("", place.node.tools, lambda: door.ask(COPY_TOOLS))
    with place.node.path_unit(), trace.bound(trace_id="1" * 32):
        assert tools.version().startswith("3.5.")
    assert requires_whole(place.node)
    assert [tool["source"] for tool in place.node.pin()["tools"]] == [f"/{PROGRAMS}/etcdctl", f"/{PROGRAMS}/etcdutl"]
    for name in ("etcdctl", "etcdutl"):
        assert sha256(Path(tools.find(name))) == sha256(place.image / PROGRAMS / name)
    assert tools.describe().source == "copied"
    assert place.node.pin()["source_pid"] == real.child.pid


def test_the_same_bytes_are_pinned_once_and_altered_ones_replaced(place: Place) -> None:
    real = place.start_etcd("etcd")
    assert place.ask(real.url, real.data).output["already"] is False
    first = place.node.pin()
    assert place.ask(real.url, real.data, "copy-tools-0002").output["already"] is True
    assert place.node.pin() == first
    assert sorted(path.name for path in place.node.tools.iterdir()) == sorted([first["folder"], "pinned.json"])
    with (place.node.tools / first["folder"] / "etcdctl").open("ab") as stream:
        stream.write(b"x")
    assert place.ask(real.url, real.data, "copy-tools-0003").output["already"] is False
    assert place.node.pin()["folder"] != first["folder"]
    assert requires_whole(place.node)


def test_a_pod_with_the_same_port_and_name_is_passed_over(place: Place) -> None:
    port = free_port()
    pod = place.start_etcd("pod", port=port, own_network=True)
    told = place.refusal(pod.url, pod.data)
    assert told.startswith("[data-without-socket] nothing listens on")
    real = place.start_etcd("etcd", port=port)
    result = place.ask(real.url, real.data, "copy-tools-0002")
    assert result.status == "succeeded"
    assert place.node.pin()["source_pid"] == real.child.pid
    assert f"pid {pod.child.pid} " not in str(result)


def test_a_pod_alone_is_told_as_such(place: Place) -> None:
    pod = place.start_etcd("pod", own_network=True)
    other = a_database(place.folder / "other")
    assert place.refusal(pod.url, other).startswith("[other-network]")
    assert f"pid {pod.child.pid} (etcd)" in place.node.result("copy-tools-0001").log_lines[-1]["message"]


def a_database(folder: Path) -> Path:
    (folder / "member/snap").mkdir(parents=True)
    (folder / "member/snap/db").write_bytes(b"data")
    return folder


def test_an_etcd_with_other_data_is_refused(place: Place) -> None:
    other = place.start_etcd("other")
    data = a_database(place.folder / "data")
    told = place.refusal(other.url, data)
    assert told.startswith("[other-data]")
    assert f"pid {other.child.pid} (etcd) owns {other.url}" in told


def test_a_copy_of_the_database_is_not_the_database(place: Place) -> None:
    real = place.start_etcd("etcd")
    copied = place.folder / "copied/member/snap"
    copied.mkdir(parents=True)
    shutil.copy(real.data / "member/snap/db", copied / "db")
    assert place.refusal(real.url, place.folder / "copied").startswith("[other-data]")


def test_a_proxy_before_etcd_is_refused(place: Place) -> None:
    real, port = place.start_etcd("etcd"), free_port()
    proxy = place.hold("proxy", port=port)
    told = place.refusal(f"http://127.0.0.1:{port}", real.data)
    assert told.startswith("[socket-without-data]")
    assert f"pid {proxy.pid} " in told
    assert f"pid {real.child.pid} (etcd) does: is that a proxy before etcd?" in told


def test_a_process_with_the_data_that_listens_elsewhere_is_refused(place: Place) -> None:
    real = place.start_etcd("etcd")
    told = place.refusal(f"http://127.0.0.1:{free_port()}", real.data)
    assert told.startswith("[data-without-socket]")
    assert f"pid {real.child.pid} (etcd) has" in told


def test_two_that_fit_are_refused(place: Place) -> None:
    port, data = free_port(), a_database(place.folder / "data")
    place.hold("both", port=port, path=data / "member/snap/db", forks=True)
    assert place.refusal(f"http://127.0.0.1:{port}", data).startswith("[two-fit]")


@pytest.mark.parametrize(
    "host, reason",
    [("127.0.0.1", "not-listening"), ("192.0.2.1", "endpoint-not-local"), ("no.such.name", "endpoint-not-local")],
)
def test_an_endpoint_that_nobody_serves_here_is_refused(place: Place, host: str, reason: str) -> None:
    told = place.refusal(f"http://{host}:{free_port()}", a_database(place.folder / "data"))
    assert told.startswith(f"[{reason}]")


def test_k3s_says_what_to_install(place: Place, tmp_path: Path) -> None:
    """A process of that name that is etcd, in a root folder without tools, as the host's is."""
    image = tmp_path / "image"
    make_image(image, "3.5")
    for tool in ("etcdctl", "etcdutl"):
        (image / PROGRAMS / tool).unlink()
    (image / PROGRAMS / "etcd").rename(image / PROGRAMS / "k3s-server")
    k3s = place.start_etcd("k3s", image=image, program="k3s-server")
    assert "has etcd built in and comes without etcdctl" in place.refusal(k3s.url, k3s.data)


def test_a_hostile_image_gets_nothing_of_the_host_copied(place: Place, tmp_path: Path) -> None:
    image = tmp_path / "image"
    make_image(image, "3.5")
    (image / "usr/bin").mkdir()
    (image / "bin").mkdir()
    hostile = place.start_etcd("hostile", image=image)
    first, second, third = (image / folder / "etcdctl" for folder in (PROGRAMS, "usr/bin", "bin"))
    for path in (first, image / PROGRAMS / "etcdutl"):
        path.unlink()
    first.symlink_to("../../../../../../../../etc/shadow")
    second.symlink_to("/proc/1/root/usr/bin/true")
    os.mkfifo(third)
    assert "is a pipe" in place.refusal(hostile.url, hostile.data)
    third.unlink()
    os.mknod(third, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert "is a device" in place.refusal(hostile.url, hostile.data, "copy-tools-0002")
    third.unlink()
    third.touch()
    os.truncate(third, 10 * 1024**3)
    assert "has 10,737,418,240 bytes" in place.refusal(hostile.url, hostile.data, "copy-tools-0003")
    third.unlink()
    (image / "etc/shadow").write_text("root:inside:0\n")
    assert "is no program for this machine" in place.refusal(hostile.url, hostile.data, "copy-tools-0004")
    assert "inside" not in (place.node.results / "copy-tools-0004.json").read_text()


def test_a_kill_at_any_instant_leaves_nothing_half(place: Place) -> None:
    real = place.start_etcd("etcd")
    place.node.configure(f'[etcd]\nendpoints = ["{real.url}"]\ndata_dir = "{real.data}"\n')
    seed = random.SystemRandom().randrange(10**6)
    print(f"the seed is {seed}")
    chance, killed = random.Random(seed), 0
    started = time.monotonic()
    place.node.put("copy-tools-whole")
    place.node.serve()
    whole_s = time.monotonic() - started  # what is an instant in the middle depends on the machine
    for number in range(12):
        identifier = f"copy-tools-{number:04}"
        request = place.node.put(identifier)
        if number % 2:  # there is a copy, and it is no longer whole
            shutil.rmtree(place.node.tools / place.node.pin()["folder"])
        service = subprocess.Popen(
            place.node.command(), env=place.node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.1, 0.9) * whole_s)
        service.send_signal(signal.SIGKILL)
        killed += service.wait() == -signal.SIGKILL
        answered = (place.node.results / f"{identifier}.json").exists()
        assert request.exists() or answered
        if answered:
            assert place.node.result(identifier).status == "succeeded"
            assert requires_whole(place.node)
        place.node.serve()
        assert place.node.result(identifier).status == "succeeded"
        assert requires_whole(place.node)
        assert not list(place.node.tools.glob(".*")) + list(place.node.results.glob(".*"))
    assert list(place.node.requests.iterdir()) == []
    assert killed >= 3


def test_a_process_is_held_by_more_than_its_number(place: Place) -> None:
    child = place.hold("process")
    with proc.Pinned(child.pid) as pinned:
        assert pinned.is_there
        assert os.path.samestat(os.fstat(pinned.root), Path("/").stat())
        child.kill()
        assert not pinned.is_there
