"""The zip: the same bytes whatever the machine's state, and nothing in it but what the handlers need."""

import ast
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from lambdas import build as lambdas_build
from lambdas.build import PROJECT, build, contents

HANDLER_FILES = sorted(path for path in (PROJECT / "lambdas").glob("*.py") if path.name != "build.py")


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(tmp_path / "first.zip")
    copy = tmp_path / "elsewhere"
    for number, name in enumerate(["lambdas/build.py", *sorted(contents(), reverse=True)]):
        if (original := PROJECT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, copy / name)
            (copy / name).chmod(0o700)
            os.utime(copy / name, (1_000_000_000 + number, 1_000_000_000 + number))
    monkeypatch.setattr(lambdas_build, "PROJECT", copy)
    before = os.umask(0o077)
    try:
        second = build(tmp_path / "second.zip")
    finally:
        os.umask(before)
    assert first == second
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_a_changed_source_gives_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "trace.py"
    source.write_text((PROJECT / "agent/trace.py").read_text() + "\n")
    monkeypatch.setattr(lambdas_build, "contents", lambda: {**contents(), "agent/trace.py": source})
    changed = build(tmp_path / "changed.zip")
    monkeypatch.undo()
    assert changed != build(tmp_path / "as-it-is.zip")


def test_it_holds_what_the_handlers_need_and_no_more(tmp_path: Path) -> None:
    build(tmp_path / "lambdas.zip")
    with zipfile.ZipFile(tmp_path / "lambdas.zip") as archive:
        names = archive.namelist()
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}
        times = {entry.date_time for entry in archive.infolist()}
    ours = {name for name in names if not name.startswith("pythonjsonlogger/")}
    assert ours == {f"lambdas/{path.name}" for path in HANDLER_FILES} | {
        "agent/__init__.py", "agent/logs.py", "agent/trace.py",
    }  # fmt: skip
    assert {"pythonjsonlogger/json.py", "pythonjsonlogger/LICENSE"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "dist-info" in name or "build" in name]
    assert names == sorted(names)
    assert (modes, times) == ({0o100644}, {(1980, 1, 1, 0, 0, 0)})


def test_an_unfinished_build_leaves_the_former_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "lambdas.zip"
    build(target)
    former = target.read_bytes()
    monkeypatch.setattr(lambdas_build, "contents", lambda: {"missing.py": tmp_path / "missing.py"})
    with pytest.raises(FileNotFoundError):
        build(target)
    assert target.read_bytes() == former


@pytest.mark.parametrize("path", HANDLER_FILES, ids=lambda path: path.name)
def test_handlers_import_only_what_lambda_has(path: Path) -> None:
    names = set()
    at_import = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        found = set()
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "agent":
            found = {f"agent.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found = {str(node.module)}
        names |= found
        if node in tree.body:
            at_import |= {name.partition(".")[0] for name in found}
    assert {name for name in names if name.startswith("agent")} <= {
        "agent.__version__", "agent.logs", "agent.trace",
    }  # fmt: skip
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others <= {"agent", "boto3", "botocore", "lambdas"}
    assert not {"boto3", "botocore"} & at_import
