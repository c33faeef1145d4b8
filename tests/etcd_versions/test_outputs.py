"""What the tools print today has the shape and the exit codes that were recorded of their version.

Where this fails after a new release of etcd, record it: `python -m tests.etcd_versions.record_outputs VERSION`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import etcdctl
from tests.etcd_versions.record_outputs import exact_version
from tests.etcd_versions.story import Told, tell
from tests.unit.recorded import DAMAGED, HARD_STOP, RETRYABLE, SAMPLES, Case, Class, cases, outcome_of

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
# Chance decides: whether TLS still tells why it hangs up, whether the altered byte or the pages that were cut off are
# any that the tool looks at, and whether it crashes on what is not there before it says so.
BY_CHANCE: dict[str, tuple[Class, ...]] = {
    "tls-no-client-cert": (HARD_STOP, RETRYABLE),
    "tls-bad-client-cert": (HARD_STOP, RETRYABLE),
    "etcdctl-status-cor": (DAMAGED, None),
    "etcdutl-status-cor": (DAMAGED, None),
    "etcdctl-status-trunc": (None,),
    "etcdutl-status-trunc": (None,),
}

# What a member that has only just started may not know yet.
TOLD_LATER = {"[].Status.storageVersion: str"}


@pytest.fixture(scope="module")
def told(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """The whole story, on the version at hand."""
    return {output.name: output for output in tell(tools, tmp_path_factory.mktemp("story"))}


@pytest.fixture(scope="module")
def release(version: str, tools: Path) -> str:
    """The recorded release to compare with: the same, or the newest of the minor version."""
    exact = exact_version(tools)
    recorded = [path.name for path in SAMPLES.glob(f"{version}.*")]
    return exact if exact in recorded else max(recorded, key=lambda name: int(name.rpartition(".")[2]))


def shape(value: Any, path: str = "") -> Iterator[str]:
    """Each place in a JSON value with the type of what stands there; list items share one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from shape(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from shape(inner, f"{path}[]")
    else:
        yield f"{path}: {type(value).__name__}"


def test_answers_have_the_shape_that_was_recorded(release: str, tools: Path, told: dict[str, Told]) -> None:
    recorded = {path.stem: json.loads(path.read_text()) for path in (SAMPLES / release).glob("*.json")}
    live = {name: json.loads(output.stdout) for name, output in told.items() if output.is_answer}
    if release == exact_version(tools):
        assert sorted(live) == sorted(recorded)
    differences = {name: set(shape(live[name])) ^ set(shape(recorded[name])) for name in live.keys() & recorded.keys()}
    assert {name: difference for name, difference in differences.items() if difference} == {}


def test_failures_end_as_they_were_recorded_and_have_the_same_class(release: str, told: dict[str, Told]) -> None:
    recorded = [case for case in cases() if case.version == release]
    assert {case.name for case in recorded} == {name for name, output in told.items() if not output.is_answer}
    assert [words for case in recorded if (words := difference_of(case, told[case.name]))] == []


def difference_of(case: Case, output: Told) -> str:
    """How a call ended otherwise than it was recorded; empty where it did not."""
    code = output.returncode if isinstance(output.returncode, int) else None
    if code != case.returncode and case.name not in BY_CHANCE:
        return f"{case.name}: exit {output.returncode}, recorded {case.returncode}: {output.stderr[-300:]}"
    if code is None:
        return ""
    error = outcome_of(Case(case.version, case.name, output.command, code, output.stdout, output.stderr))
    found, wanted = type(error) if error else None, (case.wanted, *BY_CHANCE.get(case.name, ()))
    return "" if found in wanted else f"{case.name}: {found}, wanted one of {wanted}: {output.stderr[-300:]}"


def test_with_one_of_three_down_the_others_are_still_told(told: dict[str, Told]) -> None:
    output = told["status-one-down"]
    assert output.returncode == 1
    rows = etcdctl.decode(output.stdout, list[etcdctl._EndpointStatus], "endpoint status")
    assert len(rows) == 2
    assert len({row.Status.leader for row in rows}) == 1
