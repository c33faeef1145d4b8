"""The root service's side of the spool: what it answers, what it rejects, and what can not lead it elsewhere."""

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.root_node import OP_ID, TRACE_ID, RootNode

pytestmark = pytest.mark.integration
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of two users")
ID = "copy-tools-0001"
SOMEBODY = 61235


@pytest.fixture
def node(tmp_path: Path) -> RootNode:
    node = RootNode(tmp_path / "node")
    node.configure(f'[etcd]\nendpoints = ["http://127.0.0.1:1"]\ndata_dir = "{tmp_path}/data"\n')
    return node


def left(node: RootNode) -> list[str]:
    return sorted(path.name for path in node.requests.iterdir())


def test_a_request_is_answered_and_gone(node: RootNode) -> None:
    node.put(ID)
    node.serve()
    result = node.result(ID)
    assert (result.id, result.verb, result.trace_id, result.op_id) == (ID, "copy-tools", TRACE_ID, OP_ID)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "etcd_process_unclear"
    assert result.error.message.startswith("[data-dir-missing]")
    assert left(node) == []


def test_the_answer_carries_the_log_lines_with_the_trace(node: RootNode) -> None:
    node.put(ID)
    node.serve()
    lines = node.result(ID).log_lines
    assert [line["event"] for line in lines] == ["root.started", "root.failed"]
    assert {line["trace_id"] for line in lines} == {TRACE_ID}
    assert {line["op_id"] for line in lines} == {OP_ID}
    assert {line["service"] for line in lines} == {"etcd-agent-root"}


def test_an_id_is_answered_once(node: RootNode) -> None:
    node.put(ID)
    node.serve()
    first = (node.results / f"{ID}.json").stat()
    node.put(ID)
    node.serve()
    again = (node.results / f"{ID}.json").stat()
    assert (first.st_ino, first.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)
    assert left(node) == []


@pytest.mark.parametrize("verb", ["fence", "start-etcd", "stop-etcd", "swap-data", "run"])
def test_a_verb_that_is_not_in_the_list_is_rejected(node: RootNode, verb: str) -> None:
    node.put(ID, verb=verb)
    node.serve()
    result = node.result(ID)
    assert result.status == "rejected"
    assert result.error is not None
    assert result.error.message == f"the verb {verb!r} does not exist"
    assert left(node) == []


def test_a_bad_configuration_is_the_answer(node: RootNode) -> None:
    node.configure("nonsense = 1\n")
    node.put(ID)
    node.serve()
    result = node.result(ID)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "config_invalid")
    assert left(node) == []


def given_away(path: Path) -> None:
    os.chown(path, SOMEBODY, SOMEBODY)


def writable_by_all(path: Path) -> None:
    path.chmod(0o777)


def writable_by_a_group(path: Path) -> None:
    os.chown(path, -1, SOMEBODY)
    path.chmod(0o775)


@ROOT_ONLY
@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("change", [given_away, writable_by_all, writable_by_a_group])
def test_root_does_not_go_by_a_configuration_that_others_could_write(
    node: RootNode, what: str, change: Callable[[Path], None]
) -> None:
    file = node.paths.config_file
    change(file if what == "file" else file.parent)
    node.put(ID)
    node.serve()
    result = node.result(ID)
    assert result.error is not None
    assert result.error.code == "config_invalid"
    assert "others than root could write it" in result.error.message


@ROOT_ONLY
def test_root_does_not_go_by_a_link_to_what_others_could_write(node: RootNode, tmp_path: Path) -> None:
    file = node.paths.config_file
    (tmp_path / "elsewhere").mkdir()
    os.chown(tmp_path / "elsewhere", SOMEBODY, SOMEBODY)
    file.rename(tmp_path / "elsewhere/config.toml")
    file.symlink_to(tmp_path / "elsewhere/config.toml")
    node.put(ID)
    node.serve()
    result = node.result(ID)
    assert result.error is not None
    assert result.error.code == "config_invalid"


def make_link(node: RootNode, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(node.put(ID).read_text())
    (node.requests / f"{ID}.json").unlink()
    (node.requests / f"{ID}.json").symlink_to(secret)


def make_huge(node: RootNode, tmp_path: Path) -> None:
    os.truncate(node.put(ID), 10 * 1024**3)


def make_pipe(node: RootNode, tmp_path: Path) -> None:
    os.mkfifo(node.requests / f"{ID}.json")


def make_folder(node: RootNode, tmp_path: Path) -> None:
    (node.requests / f"{ID}.json" / "deep").mkdir(parents=True)
    (node.requests / f"{ID}.json" / "deep" / "file").touch()


def make_garbage(node: RootNode, tmp_path: Path) -> None:
    node.put_bytes(f"{ID}.json", b"[" * 60_000)


@pytest.mark.parametrize("make", [make_link, make_huge, make_pipe, make_folder, make_garbage])
def test_what_is_no_plain_request_is_rejected_and_starts_nothing_again(
    node: RootNode, tmp_path: Path, make: Callable[[RootNode, Path], None]
) -> None:
    make(node, tmp_path)
    node.serve()
    assert node.result(ID).status == "rejected"
    assert [name for name in left(node) if not name.startswith(".")] == []


@pytest.mark.parametrize("name", ["x", "no id.json", ".hidden", "caf\udce9.json", "-rf.json", "A" * 40 + ".json"])
def test_a_name_that_is_no_id_is_removed(node: RootNode, name: str) -> None:
    node.put_bytes(name, b"{}")
    node.serve()
    assert left(node) == []
    assert list(node.results.iterdir()) == []


@ROOT_ONLY
def test_a_request_of_another_owner_is_rejected(node: RootNode) -> None:
    os.chown(node.put(ID), SOMEBODY, SOMEBODY)
    node.serve()
    result = node.result(ID)
    assert result.status == "rejected"
    assert result.error is not None
    assert f"belongs to uid {SOMEBODY}" in result.error.message


def swapped_by_a_link(path: Path, victim: Path) -> None:
    path.rename(path.with_name(f"{path.name}.away"))
    path.symlink_to(victim)


def swapped_by_a_folder_of_his(path: Path, victim: Path) -> None:
    path.rename(path.with_name(f"{path.name}.away"))
    path.mkdir()
    os.chown(path, SOMEBODY, SOMEBODY)


def opened_for_all(path: Path, victim: Path) -> None:
    path.chmod(0o777)


def made_a_file(path: Path, victim: Path) -> None:
    path.rename(path.with_name(f"{path.name}.away"))
    path.touch()


@ROOT_ONLY
@pytest.mark.parametrize("what", ["requests", "results", "tools"])
@pytest.mark.parametrize("trick", [swapped_by_a_link, swapped_by_a_folder_of_his, opened_for_all, made_a_file])
def test_folders_that_are_not_roots_own_stop_it_before_it_touches_anything(
    node: RootNode, tmp_path: Path, what: str, trick: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    (victim / f"{ID}.json").write_text("kept")
    node.put(ID)
    trick(getattr(node, what), victim)
    completed = node.serve(check=False)
    assert completed.returncode == 1
    assert "systemd-tmpfiles --create" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert {path.name: path.read_text() for path in victim.iterdir()} == {"kept": "kept", f"{ID}.json": "kept"}


def test_results_are_whole_and_readable_by_the_service(node: RootNode) -> None:
    node.put(ID)
    node.serve()
    status = (node.results / f"{ID}.json").stat()
    assert status.st_uid == os.geteuid()
    assert stat.S_IMODE(status.st_mode) == 0o644


def test_unfinished_writes_are_swept_and_old_results_go(node: RootNode) -> None:
    for number in range(230):
        path = node.results / f"copy-tools-{number:04}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    (node.results / ".copy-tools-0001.json.0a0b.tmp").touch()
    old, young = node.put_bytes(".old.json.0a0b.tmp", b""), node.put_bytes(".young.json.0a0b.tmp", b"")
    os.utime(old, (0, 0))
    node.serve()
    assert left(node) == [young.name]
    assert sorted(path.name for path in node.results.iterdir()) == [f"copy-tools-{n:04}.json" for n in range(30, 230)]


def test_more_requests_than_one_run_handles_are_handled_by_the_next(node: RootNode) -> None:
    for number in range(130):
        node.put(f"copy-tools-{number:04}")
    node.serve()
    assert len(left(node)) == 30
    node.serve()
    assert left(node) == []
    assert len(list(node.results.iterdir())) == 130


def test_a_request_that_is_swapped_while_it_is_read_leads_nowhere_else(node: RootNode, tmp_path: Path) -> None:
    """Its owner turns it into a link, a folder and a file again, as fast as he can."""
    secret = tmp_path / "secret"
    secret.write_bytes(node.put(ID, verb="of-the-secret").read_bytes())
    path, ended = node.requests / f"{ID}.json", threading.Event()

    def swap() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            made = node.requests / f".swap{number}.tmp"
            with contextlib.suppress(OSError):
                if number % 3 == 0:
                    made.symlink_to(secret)
                elif number % 3 == 1:
                    made.mkdir()
                else:
                    made.write_bytes(b"{}")
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
                made.rename(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(8):
            completed = node.serve(check=False)
            assert completed.returncode == 0, completed.stderr
            for result in node.results.iterdir():
                assert "of-the-secret" not in result.read_text()
                result.unlink()
    finally:
        ended.set()
        thread.join()
    assert secret.exists()
