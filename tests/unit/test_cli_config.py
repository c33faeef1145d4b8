"""`config show`: each value with its origin, for people and as JSON."""

import json
from pathlib import Path

import pytest

from agent.cli import main


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETCD_AGENT_ROOT", str(tmp_path))
    return tmp_path


def test_each_value_is_shown_with_where_it_came_from(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "etc/etcd-agent/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[store]\nkind = "s3"\nbucket = "backups"\n')
    monkeypatch.setenv("ETCD_AGENT_CLUSTER", "prod")
    assert main(["--set", "log.level=DEBUG", "config", "show", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert values["store.bucket"] == {"value": "backups", "origin": f"file {file}"}
    assert values["cluster"] == {"value": "prod", "origin": "variable ETCD_AGENT_CLUSTER"}
    assert values["log.level"] == {"value": "DEBUG", "origin": "flag --set log.level"}
    assert values["etcd.endpoints"] == {"value": ["http://127.0.0.1:2379"], "origin": "default"}


def test_the_table_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "cluster=prod", "config", "show"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cluster", "prod", "flag", "--set", "cluster"] in rows
    assert ["store.bucket", '""', "default"] in rows


def test_a_configuration_that_does_not_hold_together_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "log.level=LOUD", "--set", "no.such=1", "config", "show"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "2 problems" in told.err
    assert "Traceback" not in told.err


def test_a_file_that_may_not_be_read_asks_for_sudo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert main(["config", "show"]) == 2
    assert "sudo" in capsys.readouterr().err
