"""One node that boots, for all tests that need a real systemd: installing and booting takes half a minute."""

from collections.abc import Iterator

import pytest

from tests.sandbox import booted_node, held_snapshots
from tests.sandbox.booted_node import BootedNode, CanNotBoot

LEAST_LOG_BYTES = 65536
CONFIG = f"""{booted_node.CONFIG}
tools_dir = "{held_snapshots.FOLDER}"
[daemon]
stop_timeout_s = 2
[log]
max_size_bytes = {LEAST_LOG_BYTES}
"""


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedNode]:
    """Skips where this machine boots no node, and says why."""
    try:
        with booted_node.running(tmp_path_factory.mktemp("boot"), config=CONFIG) as node:
            held_snapshots.install(node)
            yield node
    except CanNotBoot as reason:
        pytest.skip(str(reason))
