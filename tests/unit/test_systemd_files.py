"""What a node gets besides the program: unit, user, folders, example configuration, log shipping."""

import configparser
import io
import json
import logging
import os
import re
import shutil
import subprocess
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from agent import config, daemon, logs, settings
from agent.adapters import process, root_service
from agent.adapters.spool import FOLDERS
from agent.domain import etcd_tools, root_request

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNIT = SYSTEMD / "etcd-agent.service"
ROOT_UNIT = SYSTEMD / "etcd-agent-root.service"
ROOT_PATH = SYSTEMD / "etcd-agent-root.path"
SERVICE_UID = 61234
PROGRAM = "/opt/etcd-agent/bin/etcd-agent"
# What the unit refers to; systemd-analyze looks for it below the given root alone.
TARGETS = ("basic", "multi-user", "network", "shutdown", "sysinit")
MOST_EXPOSURE_TENTHS = {UNIT: 16, ROOT_UNIT: 12}
CLOUDWATCH_RETENTIONS_DAYS = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653}


def tool(name: str) -> str:
    """The path of a tool of systemd; skips the test where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is missing: install the package systemd")
    return found


def run(*argv: str | Path) -> str:
    """What a tool printed. Fails the test when the tool does."""
    completed = subprocess.run(argv, capture_output=True, text=True, check=False)
    printed = completed.stdout + completed.stderr
    assert completed.returncode == 0, f"{argv} ended with {completed.returncode}: {printed}"
    return printed


def unit(path: Path = UNIT) -> configparser.RawConfigParser:
    """The unit's settings; of a repeated one the last value."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def seconds(text: str) -> int:
    assert text.endswith("s"), f"{text!r} has no unit"
    return int(text[:-1])


def node_root(tmp_path: Path) -> Path:
    """A root folder as an installed node has it: program, unit, user, and the targets it names."""
    units = tmp_path / "etc/systemd/system"
    program = tmp_path / PROGRAM.lstrip("/")
    for folder in (units, program.parent, tmp_path / "usr/lib/systemd/system"):
        folder.mkdir(parents=True)
    for unit_file in (UNIT, ROOT_UNIT, ROOT_PATH):
        shutil.copy(unit_file, units)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in TARGETS:
        (tmp_path / f"usr/lib/systemd/system/{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\netcd-agent:x:990:990::/:/usr/sbin/nologin\n")
    (tmp_path / "etc/group").write_text("root:x:0:\netcd-agent:x:990:\n")
    return tmp_path


@pytest.mark.parametrize("path", [UNIT, ROOT_UNIT, ROOT_PATH], ids=lambda path: path.name)
def test_the_unit_is_right_in_systemds_eyes(tmp_path: Path, path: Path) -> None:
    assert run(tool("systemd-analyze"), "verify", f"--root={node_root(tmp_path)}", path.name) == ""


@pytest.mark.parametrize("path", MOST_EXPOSURE_TENTHS, ids=lambda path: path.name)
def test_the_unit_exposes_little(path: Path) -> None:
    analyze = tool("systemd-analyze")
    rows = json.loads(run(analyze, "security", "--offline=true", "--json=short", path))
    for row in rows:
        if row["exposure"] not in (None, "0.0", ""):
            print(f"{row['exposure']}  {row['name']}: {row['description']}")
    threshold = f"--threshold={MOST_EXPOSURE_TENTHS[path]}"
    print(run(analyze, "security", "--offline=true", threshold, path).splitlines()[-1])


def test_the_unit_starts_the_installed_program_as_its_user_with_one_capability() -> None:
    service = unit()["Service"]
    assert service["ExecStart"] == f"{PROGRAM} run"
    assert service["User"] == "etcd-agent"
    assert service["Type"] == "notify"
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_DAC_READ_SEARCH"


def test_the_root_unit_has_two_capabilities_no_network_and_writes_in_the_state_folder_alone() -> None:
    service = unit(ROOT_UNIT)["Service"]
    assert service["ExecStart"] == f"{PROGRAM} privileged"
    assert service["CapabilityBoundingSet"] == "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
    assert "AmbientCapabilities" not in service
    assert service["PrivateNetwork"] == "yes"
    assert service["ReadWritePaths"] == str(config.Paths(Path("/")).state)


def test_the_path_unit_watches_the_folder_of_requests() -> None:
    spool = config.Paths(Path("/")).spool
    assert unit(ROOT_PATH)["Path"]["DirectoryNotEmpty"] == str(spool / root_request.REQUESTS_FOLDER)


def test_the_root_unit_may_write_the_largest_tool_and_takes_no_longer_than_its_unit_allows() -> None:
    service = unit(ROOT_UNIT)["Service"]
    assert int(service["LimitFSIZE"].removesuffix("M")) * 1024 * 1024 > etcd_tools.MOST_TOOL_BYTES
    assert seconds(service["TimeoutStartSec"]) > root_service.TIMEOUT_S


def test_the_unit_owns_the_folders_that_the_program_uses() -> None:
    service, paths = unit()["Service"], config.Paths(Path("/"))
    for setting, folder in (
        ("StateDirectory", paths.state),
        ("LogsDirectory", paths.log_folder),
        ("RuntimeDirectory", paths.daemon_lock.parent),
    ):
        assert service[setting] == folder.name
    # Made by systemd it would be the service user's, though the root service reads it too.
    assert "ConfigurationDirectory" not in service


def test_the_unit_waits_longer_than_the_daemon_needs_to_stop() -> None:
    service, needed_s = unit()["Service"], config.DaemonConfig().stop_timeout_s + daemon.CLEAN_UP_S
    assert service["KillMode"] == "mixed"
    assert seconds(service["TimeoutStopSec"]) > needed_s + process.GROUP_END_S


def test_the_watchdog_allows_what_the_daemon_may_take_for_one_cycle() -> None:
    assert seconds(unit()["Service"]["WatchdogSec"]) > 3 * process.GROUP_END_S


def test_sysusers_makes_the_user(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    run(tool("systemd-sysusers"), f"--root={tmp_path}", SYSTEMD / "etcd-agent.sysusers.conf")
    user = (tmp_path / "etc/passwd").read_text()
    assert user.startswith("etcd-agent:x:")
    assert user.endswith(":/var/lib/etcd-agent:/usr/sbin/nologin\n")


def test_tmpfiles_makes_the_folders(tmp_path: Path) -> None:
    root = made_by_tmpfiles(tmp_path, service_user=os.getuid())
    paths = config.Paths(root)
    expected = {paths.spool / name for name in FOLDERS} | {paths.locks, paths.work, paths.snapshots, paths.log_folder}
    assert {folder for folder in expected if not folder.is_dir()} == set()
    assert {folder.stat().st_mode & 0o777 for folder in (paths.work, paths.snapshots)} == {0o700}
    own = (paths.spool, *(paths.spool / name for name in FOLDERS))
    assert {folder.stat().st_mode & 0o777 for folder in own} == {0o750}


def test_tmpfiles_makes_the_folders_of_the_root_service_and_gives_them_back_to_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: folders of two users")
    paths = config.Paths(made_by_tmpfiles(tmp_path, service_user=SERVICE_UID))
    folders = {
        paths.spool / root_request.REQUESTS_FOLDER: (0, SERVICE_UID, 0o770),
        paths.spool / root_request.RESULTS_FOLDER: (0, SERVICE_UID, 0o750),
        paths.tools: (0, 0, 0o755),
        paths.config_file.parent: (0, 0, 0o755),
    }
    assert {folder: owned(folder) for folder in folders} == folders
    for folder in folders:
        os.chown(folder, SERVICE_UID, SERVICE_UID)
    made_by_tmpfiles(tmp_path, service_user=SERVICE_UID)
    assert {folder: owned(folder) for folder in folders} == folders


def owned(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


def made_by_tmpfiles(tmp_path: Path, *, service_user: int) -> Path:
    """The root folder in which the file was carried out, for a service user of that number."""
    own, root = tmp_path / "own.conf", tmp_path / "root"
    root.mkdir(exist_ok=True)
    owner = 0 if os.geteuid() == 0 else service_user
    lines = (SYSTEMD / "etcd-agent.tmpfiles.conf").read_text()
    own.write_text(lines.replace(" etcd-agent ", f" {service_user} ").replace(" etcd-agent ", f" {service_user} ")
                   .replace(" root ", f" {owner} "))  # fmt: skip
    run(tool("systemd-tmpfiles"), f"--root={root}", "--create", own)
    return root


def uncommented() -> str:
    """The example with every `#key = value` line in force; prose has a blank after the `#`."""
    lines = (SYSTEMD / "config.toml").read_text().splitlines()
    return "\n".join(
        line[1:] if line.startswith("#") and not line.startswith(("# ", "#\n")) else line for line in lines
    )


def test_the_example_configuration_sets_nothing_by_itself() -> None:
    tables = tomllib.loads((SYSTEMD / "config.toml").read_text())
    assert {name: table for name, table in tables.items() if table} == {}


def test_the_example_configuration_has_every_key_at_its_default(tmp_path: Path) -> None:
    defaults = settings.load(config.Paths(tmp_path), {})
    file = config.Paths(tmp_path).config_file
    file.parent.mkdir(parents=True)
    file.write_text(uncommented())
    loaded = settings.load(config.Paths(tmp_path), {})
    assert [key for key, origin in loaded.origins.items() if origin == "default"] == []
    assert loaded.config == defaults.config


def test_the_guide_explains_every_key_with_its_default() -> None:
    page = (SYSTEMD.parent / "docs/operations.md").read_text()
    cells = {row[0]: row[1] for row in re.findall(r"^\| `([a-z_.]+)` \| (.*?) \| .* \|$", page, re.MULTILINE)}
    assert [key for key in config.keys() if key not in cells] == []  # noqa: SIM118 - a module's function
    defaults = {key: config.value_of(config.Config(), key) for key in cells if key in set(config.keys())}
    differing = {
        key: value
        for key, value in defaults.items()
        if value and str(value[0] if isinstance(value, tuple) else value) != cells[key].strip("`")
    }
    assert differing == {}


def test_cloudwatch_gets_the_log_file_once_with_its_own_time(tmp_path: Path) -> None:
    files = json.loads((SYSTEMD / "amazon-cloudwatch-agent.json").read_text())["logs"]["logs_collected"]["files"]
    (entry,) = files["collect_list"]
    path = config.Paths(Path("/")).log_folder / "agent.jsonl"
    # No pattern: it would match the rotated files as well, and each line would be shipped twice.
    assert entry["file_path"] == str(path)
    assert entry["log_group_name"].startswith("/etcd-agent/")
    assert entry["log_stream_name"] == "{instance_id}"
    assert entry["retention_in_days"] in CLOUDWATCH_RETENTIONS_DAYS
    line = a_log_line()
    timestamp = json.loads(line)["timestamp"]
    assert line.startswith(f'{{"timestamp": "{timestamp}"'), "the shipper takes the first time in a line"
    assert entry["timezone"] == "UTC"
    assert datetime.strptime(timestamp, entry["timestamp_format"]).microsecond >= 0  # noqa: DTZ007 - UTC, by the Z


def a_log_line() -> str:
    stream = io.StringIO()
    record = logging.LogRecord("agent", logging.INFO, __file__, 1, "a message", None, None)
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.ContextFilter({"service": "etcd-agent"}))
    handler.setFormatter(logs._formatter())
    handler.handle(record)
    return stream.getvalue()
