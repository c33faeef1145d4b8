"""Settings of the whole suite."""

from typing import Any

import hypothesis
import pytest

# A loaded machine makes single examples slow; what is slow is seen in the suite's time, not by a failing example.
# No database: it would belong to the user who ran the tests first, and a failing example is printed anyway.
hypothesis.settings.register_profile("suite", deadline=None, database=None)
hypothesis.settings.load_profile("suite")


# Tests that boot nodes: they share one, and what systemd-nspawn leaves on this machine is looked at. The last one asks
# who listens in which network, and a node that boots beside it listens in its own.
BOOTING = frozenset({
    "test_first_boot.py", "test_first_boot_stops.py", "test_nspawn_node.py", "test_root_service.py",
    "test_copy_tools.py",
})  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What one worker of pytest-xdist runs, in order: a file, since its tests share servers; all that boot nodes."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "nodes that boot" if path.rpartition("/")[2] in BOOTING else path

    return ByFile(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The etcd that `tests/etcd_versions` runs on, and how far the guard's model goes."""
    parser.addoption(
        "--etcd", default="3.5", metavar="VERSIONS",
        help="what tests/etcd_versions runs on: 3.5, or 3.4,3.6, or `others` for each version but 3.5",
    )  # fmt: skip
    parser.addoption(
        "--guard-members", default=5, type=int, metavar="N",
        help="tests/unit/test_guard_model.py goes through every cluster of up to N members; 7 takes 15 s",
    )  # fmt: skip
