"""Each test of this folder runs on each version that `--etcd` names; a version that is not here skips, and says why."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.etcd_versions import servers
from tests.etcd_versions.servers import Servers
from tests.setup import etcd

OF_MAKE_TEST = "3.5"
OF_SEVERAL_VERSIONS = ("test_mixed_versions.py", "test_upgrade.py")


def chosen(config: pytest.Config) -> list[str]:
    """The versions to run on."""
    wanted: str = config.getoption("--etcd")
    if wanted == "others":
        return [version for version in etcd.VERSIONS if version != OF_MAKE_TEST]
    return wanted.split(",")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each version that is here, and one for each pair of server and tools that are one version apart."""
    asked = chosen(metafunc.config)
    if "asked_version" in metafunc.fixturenames:
        metafunc.parametrize("asked_version", asked)
    if "version" in metafunc.fixturenames:
        # One skipped test tells of a version that is missing, not each of them.
        here = [version for version in asked if version in etcd.present()]
        metafunc.parametrize("version", here or asked, scope="module")
    if "pair" in metafunc.fixturenames:
        steps = list(pairwise(version for version in etcd.VERSIONS if version in etcd.present()))
        pairs = [*steps, *((newer, older) for older, newer in steps)]
        ids = [f"{of_server}-by-{of_tools}" for of_server, of_tools in pairs]
        metafunc.parametrize("pair", pairs, scope="module", ids=ids)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs several versions runs where several are asked for."""
    return True if collection_path.name in OF_SEVERAL_VERSIONS and len(chosen(config)) == 1 else None


@pytest.fixture(scope="module")
def tools(version: str) -> Path:
    """The folder with the programs of the version."""
    return servers.tools_or_skip(version)


@pytest.fixture(scope="module")
def server(version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster of one member with TLS."""
    with servers.running(version, tools, tmp_path_factory.mktemp("single"), size=1) as running:
        yield running


@pytest.fixture(scope="module")
def trio(version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster of three members with TLS; a test leaves it as healthy as it found it."""
    with servers.running(version, tools, tmp_path_factory.mktemp("trio"), size=3) as running:
        yield running
