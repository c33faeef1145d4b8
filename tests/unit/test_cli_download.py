"""`snapshot download`: the raw snapshot under its name, or nothing at all and the reason."""

import errno
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import bootstrap_ports
from agent.adapters import files
from agent.adapters.directory import DirectoryStore
from agent.cli import downloading, main
from agent.domain import snapshot
from agent.domain.snapshot import Backup, Manifest
from agent.errors import AgentError, CommandMissing, NoSpace, SnapshotInvalid, StoreError
from agent.operations import compression
from agent.ports import SnapshotFile
from tests.unit.fakes import FakeStore, FakeTool, snapshot_bytes
from tests.unit.test_retrieval import stored as stored_in

RAW = snapshot_bytes(600)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("ETCD_AGENT_CLUSTER", "prod")
    monkeypatch.setenv("COLUMNS", "220")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> FakeTool:
    made = FakeTool()
    monkeypatch.setattr(bootstrap_ports, "make_snapshot_tool", lambda node: made)
    return made


@pytest.fixture
def one(root: Path, tool: FakeTool) -> Manifest:
    """A good snapshot in the node's directory store."""
    memory = FakeStore()
    made = stored_in(memory, RAW, b"".join(compression.compressed([RAW])))
    tool.revision = made.revision
    put(root, made.data.key, memory.objects[made.data.key])
    put(root, snapshot.manifest_key(made.retention_class, "prod", made.snapshot_id), snapshot.encode(made))
    return made


def store_path(root: Path) -> Path:
    return root / "root/var/lib/etcd-agent/snapshots"


def put(root: Path, key: str, content: bytes) -> None:
    path = store_path(root) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def here() -> list[str]:
    """What is in the folder that the command is typed in."""
    return sorted(path.name for path in Path().iterdir())


def run(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> dict[str, Any]:
    assert main(["snapshot", "download", *words, "--json"]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    document: dict[str, Any] = json.loads(told.out)
    return document


def refusal(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> dict[str, str]:
    """The error, after which nothing of it is left."""
    before = here()
    error: dict[str, str] = run(capsys, code, *words)["error"]
    assert here() == before
    return error


@pytest.mark.parametrize("wanted", ["latest", "its id"])
def test_the_file_is_what_etcd_wrote(
    root: Path, one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    answer = run(capsys, 0, one.snapshot_id if wanted == "its id" else wanted, "etcd.db")
    path = root / "here/etcd.db"
    assert path.read_bytes() == RAW
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert here() == ["etcd.db"]
    assert answer["checks"] == {"sha256": "passed", "trailer": "passed", "structure": "passed"}
    assert (answer["path"], answer["revision"], answer["size_bytes"]) == (str(path), one.revision, len(RAW))
    assert f"etcdutl snapshot restore {path} --data-dir" in answer["next"]
    assert "tool_status" in tool.failures.calls


def test_people_read_where_it_is_and_what_comes_next(
    root: Path, one: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", "download", "latest", "a file"]) == 0
    screen = capsys.readouterr().out
    for text in (one.snapshot_id, str(root / "here/a file"), f"{len(RAW):,} bytes", f"{one.revision:,}",
                 "structure by etcdutl 3.5.16", f"restore '{root / 'here/a file'}'", "--bump-revision"):  # fmt: skip
        assert text in screen


def test_nothing_is_overwritten(one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str]) -> None:
    Path("etcd.db").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    for name in ("etcd.db", "dangling"):
        assert refusal(capsys, 2, "latest", name)["code"] == "bad_input"
    assert Path("etcd.db").read_text() == "mine"
    assert "tool_status" not in tool.failures.calls


@pytest.mark.parametrize("links", [True, False])
def test_who_takes_the_name_meanwhile_keeps_it(
    one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    taken = Path("etcd.db")

    def status(path: Path) -> SnapshotFile:
        taken.write_text("another's")
        return SnapshotFile(1, one.revision, 1, 1)

    monkeypatch.setattr(tool, "status", status)
    assert run(capsys, 2, "latest", "etcd.db")["error"]["code"] == "bad_input"
    assert here() == ["etcd.db"]
    assert taken.read_text() == "another's"


def no_links(*arguments: object, **named: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_links_will_do(
    one: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    run(capsys, 0, "latest", "etcd.db")
    assert Path("etcd.db").read_bytes() == RAW
    assert here() == ["etcd.db"]


@pytest.mark.parametrize(
    "target, code, said",
    [
        ("a folder", "bad_input", "is a folder"), ("missing/etcd.db", "bad_input", "is no folder"),
        ("file/etcd.db", "bad_input", "is no folder"), ("closed/etcd.db", "file_unusable", "can not be written"),
        ("n" * 300, "file_unusable", "too long"),
    ],
)  # fmt: skip
def test_a_target_that_can_not_be_is_told_first(
    one: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str, code: str,
    said: str,
) -> None:  # fmt: skip
    for folder in ("a folder", "closed"):
        Path(folder).mkdir()
    Path("file").write_text("")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and real(path, mode))
    error = refusal(capsys, 2 if code == "bad_input" else 1, "latest", target)
    assert error["code"] == code
    assert said in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("wanted", ["latest", "20260131T110000Z-00000000"])
def test_what_is_not_there_is_not_found(
    root: Path, tool: FakeTool, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    assert refusal(capsys, 1, wanted, "etcd.db")["code"] == "snapshot_not_found"


def test_lost_data_are_told_as_such(root: Path, one: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    (store_path(root) / one.data.key).unlink()
    error = refusal(capsys, 1, "latest", "etcd.db")
    assert error["code"] == "snapshot_not_found"
    assert f"the data of {one.snapshot_id} are gone" in error["message"]


def test_damaged_bytes_never_get_the_name(
    root: Path, one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store_path(root) / one.data.key
    content = bytearray(path.read_bytes())
    for position in range(0, len(content), max(1, len(content) // 40)):
        content[position] ^= 4
        path.write_bytes(content)
        content[position] ^= 4
        error = refusal(capsys, 1, "latest", "etcd.db")
        assert error["code"] == "snapshot_invalid"
        assert f"snapshot verify {one.snapshot_id}" in error["hint"]
    assert "tool_status" not in tool.failures.calls


@pytest.mark.parametrize("error", [SnapshotInvalid("page 7 is damaged"), "another revision"], ids=str)
def test_what_the_tool_finds_counts_too(
    one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str], error: Exception | str
) -> None:
    if isinstance(error, Exception):
        tool.failures.always("tool_status", error)
    else:
        tool.revision += 1
    assert refusal(capsys, 1, "latest", "etcd.db")["code"] == "snapshot_invalid"


def test_without_a_tool_it_asks_before_it_reads(
    root: Path, one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.failures.always("describe", CommandMissing("etcdutl is not in PATH"))
    error = refusal(capsys, 1, "latest", "etcd.db")
    assert (error["code"], "--without-structure" in error["hint"]) == ("command_missing", True)
    answer = run(capsys, 0, "latest", "etcd.db", "--without-structure")
    assert answer["checks"] == {"sha256": "passed", "trailer": "passed", "structure": "skipped"}
    assert Path("etcd.db").read_bytes() == RAW
    assert "tool_status" not in tool.failures.calls


def test_room_is_looked_at_before_anything_is_read(
    one: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: len(RAW) - 1)
    error = refusal(capsys, 1, "latest", "etcd.db")
    assert (error["code"], f"needs {len(RAW):,}" in error["message"]) == ("no_space", True)


@pytest.mark.parametrize(
    "number, error", [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, AgentError)]
)  # fmt: skip
def test_a_disk_that_fails_meanwhile_is_told_with_its_folder(
    root: Path, one: Manifest, tool: FakeTool, monkeypatch: pytest.MonkeyPatch, number: int, error: type[AgentError]
) -> None:
    def fails(count: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(error, match="here") as caught:
        downloading.save(DirectoryStore(store_path(root)), tool, Backup(one), Path.cwd() / "etcd.db", fails)
    assert caught.value.hint
    assert here() == []


def test_a_store_that_is_away_says_so(
    root: Path, one: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    store.failures.always("keys", StoreError("it is away", hint="look"))
    monkeypatch.setattr(bootstrap_ports, "make_store", lambda node: store)
    assert refusal(capsys, 1, "latest", "etcd.db")["code"] == "store_error"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where the tests were started with INT ignored, as in the background of a script, Python has no handler for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["while it is read", "while the tool looks"])
def test_a_signal_leaves_nothing(
    one: Manifest, tool: FakeTool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals, moment: str,
) -> None:  # fmt: skip
    handlers = [signal.getsignal(one_of) for one_of in downloading.STOPPING]
    unpacked = compression.decompressed

    def stopped(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in unpacked(chunks):
            assert [name.startswith(".") for name in here()] == [True]
            signal.raise_signal(number)
            yield chunk

    def status(path: Path) -> SnapshotFile:
        assert path.read_bytes() == RAW
        signal.raise_signal(number)
        raise AssertionError("it went on")

    if moment == "while it is read":
        monkeypatch.setattr(compression, "decompressed", stopped)
    else:
        monkeypatch.setattr(tool, "status", status)
    assert main(["snapshot", "download", "latest", "etcd.db"]) == 130
    assert here() == []
    assert [signal.getsignal(one_of) for one_of in downloading.STOPPING] == handlers


def test_one_that_is_not_good_is_given_out_and_says_so(
    root: Path, one: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    """An emergency snapshot may be all that is left."""
    checks = tuple(check for check in one.checks if check.level != "fresh")
    key = snapshot.manifest_key(one.retention_class, "prod", one.snapshot_id)
    manifest = snapshot.decode_manifest((store_path(root) / key).read_bytes(), key)
    put(root, key, snapshot.encode(msgspec.structs.replace(manifest, checks=checks)))
    assert refusal(capsys, 1, "latest", "etcd.db")["code"] == "snapshot_not_found"
    answer = run(capsys, 0, one.snapshot_id, "etcd.db")
    assert (answer["good"], answer["why_not_good"]) == (False, ["fresh not checked"])
    Path("etcd.db").unlink()
    assert main(["snapshot", "download", one.snapshot_id, "etcd.db"]) == 0
    assert "no: fresh not checked" in capsys.readouterr().out
