"""The SSM document: what its parameters let through, and what its script does on all three kinds of SSM agent."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from agent.domain.request import OPERATIONS
from agent.trace import parse_inherited

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((PROJECT / "lambdas/document.yaml").read_text())
PARAMETERS: dict[str, dict[str, Any]] = DOCUMENT["parameters"]
SCRIPT = "\n".join(DOCUMENT["mainSteps"][0]["inputs"]["runCommand"])
PATTERNS = {name: rules["allowedPattern"] for name, rules in PARAMETERS.items() if "allowedPattern" in rules}
LISTS = {name: rules["allowedValues"] for name, rules in PARAMETERS.items() if "allowedValues" in rules}

TRACE_ID, SPAN_ID = "697df0c0a1b2c3d4e5f60718293a4b5c", "00f067aa0ba902b7"
VALUES = {
    "traceId": TRACE_ID, "parentSpanId": SPAN_ID, "operation": "snapshot", "opId": "snapshot-0123456789abcdef",
    "requestedAt": "2026-01-31T12:00:00Z", "emergency": "false", "snapshotId": "latest",
}  # fmt: skip
# How a parameter reaches the script: (the placeholder is replaced, the variable is set).
AGENTS = {"old": (True, False), "new": (False, True), "new that does both": (True, True)}
SHELLS: list[tuple[str, ...]] = [(name,) for name in ("sh", "dash", "bash") if shutil.which(name)]
SHELLS += [("busybox", "sh")] if shutil.which("busybox") else []
HOSTILE = [
    *("`${}()[]<>|&;!*?~#%'\"\\\n\r\t\0\x1b ,=@"), "$(id)", "`id`", "{{ opId }}", "$$", "';id;'", '";id;"', "a\nb", "é",
]  # fmt: skip

FAKE_AGENT = """#!/bin/sh
printf '%s\\n' "$@" > "$FAKE_FOLDER/arguments"
env > "$FAKE_FOLDER/environment"
echo '{"state": "done"}'
exit "$FAKE_EXIT"
"""


@dataclass(frozen=True)
class Ran:
    """A run of the script, and what the program was given (None: it was not started)."""

    exit_code: int
    stdout: str
    stderr: str
    arguments: list[str] | None
    environment: dict[str, str]


# Looked at when this file is read: tests that script operations of their own add them to the list later.
SSM_MAY_ASK = {kind.name for kind in OPERATIONS.values() if kind.ssm_may_ask}


def is_allowed(name: str, value: str) -> bool:
    """As the SSM agent checks it: a search by Go's regexp, whose `$` is the very end of the text."""
    if name in LISTS:
        return value in LISTS[name]
    assert PATTERNS[name].endswith("$")
    return re.search(PATTERNS[name].removesuffix("$") + r"\Z", value, re.ASCII) is not None


def rendered(agent: str, changes: Mapping[str, str] = MappingProxyType({})) -> tuple[str, dict[str, str]]:
    """The script and the variables that this kind of agent makes of the parameters."""
    replaces, sets = AGENTS[agent]
    script, variables = SCRIPT, {}
    for name, value in (VALUES | dict(changes)).items():
        by_variable = PARAMETERS[name].get("interpolationType") == "ENV_VAR"
        if replaces or not by_variable:
            script = re.sub(r"\{\{\s*" + name + r"\s*\}\}", value, script)
        if sets and by_variable:
            variables[f"SSM_{name}"] = value
    return script, variables


def run(
    folder: Path,
    agent: str,
    changes: Mapping[str, str] = MappingProxyType({}),
    *,
    shell: tuple[str, ...] = ("sh",),
    exits: int = 0,
) -> Ran:
    """Runs the script with a program in the place of etcd-agent that writes down what it is given."""
    program = folder / "bin/etcd-agent"
    program.parent.mkdir(exist_ok=True)
    program.write_text(FAKE_AGENT)
    program.chmod(0o755)
    script, variables = rendered(agent, changes)
    ended = subprocess.run(
        [*shell, "-c", script], capture_output=True, text=True, timeout=20, check=False, cwd=folder,
        env={
            "PATH": f"{program.parent}:/usr/bin:/bin", "FAKE_FOLDER": str(folder), "FAKE_EXIT": str(exits),
            "SSM_COMMAND_ID": "5ec0de00-0000-4000-8000-000000000001", "AWS_SSM_INSTANCE_ID": "i-0a", **variables,
        },
    )  # fmt: skip
    given = folder / "arguments"
    environment = (folder / "environment").read_text().splitlines() if given.exists() else []
    return Ran(
        ended.returncode, ended.stdout, ended.stderr, given.read_text().splitlines() if given.exists() else None,
        dict(line.partition("=")[::2] for line in environment),
    )  # fmt: skip


def test_it_is_one_shell_step_of_a_command_document() -> None:
    (step,) = DOCUMENT["mainSteps"]
    assert (DOCUMENT["schemaVersion"], step["action"]) == ("2.2", "aws:runShellScript")
    assert step["inputs"]["timeoutSeconds"] == "120"
    assert len((PROJECT / "lambdas/document.yaml").read_bytes()) < 32 * 1024


def test_the_first_two_lines_are_trace_and_path() -> None:
    assert SCRIPT.splitlines()[:2] == [
        "export TRACE_ID='{{ traceId }}'",
        "PATH=$PATH:/opt/etcd-agent/bin:/usr/local/bin:/usr/bin:/bin",
    ]
    assert "interpolationType" not in PARAMETERS["traceId"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_closed_and_reaches_every_agent(name: str) -> None:
    rules = PARAMETERS[name]
    assert re.fullmatch(r"[a-zA-Z0-9]+", name)  # what SSM allows as a name
    assert rules["type"] == "String"
    assert ("allowedPattern" in rules) != ("allowedValues" in rules)
    if name in PATTERNS:
        assert re.fullmatch(r"\^(?:\(.*\)|[^|]*)\$", PATTERNS[name])  # `^a|b$` would be anchored by halves
        assert not re.search(r"\.[*+?{]|\\[wWsSdD]|[*+]", PATTERNS[name])
    assert is_allowed(name, VALUES[name])
    assert "default" not in rules or is_allowed(name, rules["default"])
    if name != "traceId":
        assert rules["interpolationType"] == "ENV_VAR"
        fallback = 'if [ -z "${SSM_p+x}" ]; then export SSM_p="{{ p }}"; fi'
        assert re.sub(r"\bp\b|(?<=SSM_)p", name, fallback) in SCRIPT.splitlines()


@pytest.mark.parametrize("name", PARAMETERS)
def test_no_value_can_be_anything_but_a_plain_word(name: str) -> None:
    good = VALUES[name]
    for hostile in HOSTILE:
        for value in (hostile, hostile + good, good + hostile, good[:4] + hostile + good[4:], f"{good}\n{good}"):
            assert not is_allowed(name, value), value
    for value in (
        "",
        "-",
        "--help",
        "--version",
        "-" * 16,
        good[0] * 10_240,
        good * 1000,
        good.upper() + "X",
        good + "\n",
    ):
        assert not is_allowed(name, value), value[:80]


def test_it_allows_what_the_contract_allows() -> None:
    assert set(LISTS["operation"]) == SSM_MAY_ASK
    assert set(LISTS["emergency"]) == set(OPERATIONS["snapshot"].params["emergency"].split("|"))
    assert PATTERNS["snapshotId"] == f"^({OPERATIONS['verify'].params['id']})$"


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_program_gets_the_request_and_the_trace(tmp_path: Path, agent: str, shell: tuple[str, ...]) -> None:
    script, _ = rendered(agent)
    assert subprocess.run([*shell, "-n", "-c", script], capture_output=True, check=True).stderr == b""
    ran = run(tmp_path, agent, shell=shell)
    assert (ran.exit_code, ran.stderr, json.loads(ran.stdout)) == (0, "", {"state": "done"})
    assert ran.arguments == [
        "submit", "snapshot", "--op-id", "snapshot-0123456789abcdef", "--requested-at", "2026-01-31T12:00:00Z",
        "--wait", "--timeout", "45", "--json",
    ]  # fmt: skip
    assert ran.environment["TRACE_ID"] == TRACE_ID
    assert ran.environment["TRACEPARENT"] == f"00-{TRACE_ID}-{SPAN_ID}-01"
    assert ran.environment["SSM_COMMAND_ID"].startswith("5ec0de00")
    assert ran.environment["PATH"].endswith(":/opt/etcd-agent/bin:/usr/local/bin:/usr/bin:/bin")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "changes, params",
    [
        ({}, []),
        ({"emergency": "true"}, ["--param", "emergency=true"]),
        ({"operation": "verify"}, ["--param", "id=latest"]),
        ({"operation": "verify", "emergency": "true"}, ["--param", "id=latest"]),
        (
            {"operation": "verify", "snapshotId": "20260131T120000Z-0a1b2c3d"},
            ["--param", "id=20260131T120000Z-0a1b2c3d"],
        ),
    ],
)
def test_an_operation_gets_its_own_parameters_only(
    tmp_path: Path, agent: str, changes: dict[str, str], params: list[str]
) -> None:
    ran = run(tmp_path, agent, changes)
    assert ran.arguments is not None
    assert ran.arguments[1] == changes.get("operation", "snapshot")
    assert ran.arguments[10:] == params


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "exits, expected",
    [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0), (5, 5), (126, 126), (127, 127), (130, 130), (137, 137), (194, 1)],
)
def test_refused_and_still_running_are_no_failures_and_nothing_reboots(
    tmp_path: Path, agent: str, exits: int, expected: int
) -> None:
    ran = run(tmp_path, agent, exits=exits)
    assert ran.arguments is not None
    assert (ran.exit_code, json.loads(ran.stdout)) == (expected, {"state": "done"})


@pytest.mark.parametrize("agent", AGENTS)
def test_a_missing_program_is_told(tmp_path: Path, agent: str) -> None:
    script, variables = rendered(agent)
    nowhere = script.replace("/opt/etcd-agent/bin:/usr/local/bin", str(tmp_path))
    ended = subprocess.run(
        ["sh", "-c", nowhere], capture_output=True, text=True, timeout=20, check=False,
        env={"PATH": "/usr/bin:/bin", **variables},
    )  # fmt: skip
    assert ended.returncode == 127
    assert ended.stderr.startswith("etcd-agent is not installed on this node")
    assert ended.stdout == ""


def test_a_command_without_a_sender_span_has_a_trace_and_no_parent(tmp_path: Path) -> None:
    ran = run(tmp_path, "new", {"parentSpanId": PARAMETERS["parentSpanId"]["default"]})
    inherited = parse_inherited(ran.environment["TRACEPARENT"])
    assert inherited
    assert (inherited.trace_id, inherited.parent_span_id) == (TRACE_ID, "")


def test_the_real_program_takes_the_arguments(tmp_path: Path) -> None:
    script, variables = rendered("new", {"requestedAt": "2026-13-01T12:00:00Z"})
    ended = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False,
        env={
            "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "ETCD_AGENT_ROOT": str(tmp_path),
            **variables,
        },
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr  # bad input stays a failure
    assert "'2026-13-01T12:00:00Z' is not a time" in ended.stderr
