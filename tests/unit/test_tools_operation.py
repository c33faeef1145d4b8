"""What an operation does about its tools before it starts: nothing, a copy, or a copy again."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import EtcdUnavailable, RootServiceMissing
from agent.operations import tools as etcd_tools
from agent.operations.steps import Steps


class Tools:
    """Tools that say one version after the other."""

    def __init__(self, *versions: str, are_copied: bool = True) -> None:
        self._versions, self.are_copied = list(versions), are_copied
        self.calls: list[str] = []

    def version(self) -> str:
        self.calls.append("version")
        if not self._versions:
            raise RootServiceMissing("nobody")
        return self._versions[0]

    def refresh(self) -> None:
        self.calls.append("refresh")
        self._versions.pop(0)


class Etcd:
    """An etcd that says its version, or nothing."""

    def __init__(self, version: str) -> None:
        self._version = version

    def status(self) -> Any:
        if not self._version:
            raise EtcdUnavailable("silent")
        return type("Status", (), {"version": self._version})()


@pytest.fixture
def prepare() -> Callable[[str, Tools], list[str]]:
    def run(running: str, tools: Tools) -> list[str]:
        steps = Steps(lambda progress: None)
        etcd_tools.prepare(Etcd(running), tools, steps)  # type: ignore[arg-type]
        return [f"{step.name} {step.status}" for step in steps.results]

    return run


Prepare = Callable[[str, Tools], list[str]]


def test_installed_tools_are_left_alone(prepare: Prepare) -> None:
    tools = Tools(are_copied=False)
    assert prepare("3.5.1", tools) == []
    assert tools.calls == []


@pytest.mark.parametrize("running", ["3.5.1", "3.5.21", ""])
def test_copied_tools_that_fit_or_can_not_be_compared_are_used(prepare: Prepare, running: str) -> None:
    tools = Tools("3.5.16", "3.6.0")
    assert prepare(running, tools) == ["tools succeeded"]
    assert tools.calls == ["version"]


@pytest.mark.parametrize("then", ["3.6.1", "3.5.16"])
def test_another_minor_version_of_etcd_brings_another_copy_once(prepare: Prepare, then: str) -> None:
    tools = Tools("3.5.16", then)
    assert prepare("3.6.0", tools) == ["tools succeeded"]
    assert tools.calls == ["version", "refresh", "version"]


def test_what_stands_against_a_copy_ends_the_operation(prepare: Prepare) -> None:
    with pytest.raises(RootServiceMissing):
        prepare("3.5.1", Tools())
