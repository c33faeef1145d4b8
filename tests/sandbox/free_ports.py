"""Ports for the sandbox's servers: below the ephemeral range, probed just before use, each given out once.

Between the probe and the use nothing holds a port, so the workers of one test run have a range each.
"""

import os
import random
import socket
from collections.abc import Mapping

LOWEST, HIGHEST = 20000, 32767
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nothing listens on at that address. Raises RuntimeError when a hundred are taken."""
    lowest, highest = own_range(os.environ)
    for _ in range(100):
        port = random.SystemRandom().randint(lowest, highest)
        if port not in _given and _can_bind(address, port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {lowest} and {highest} on {address}")


def own_range(environment: Mapping[str, str]) -> tuple[int, int]:
    """The lowest and highest port of this test worker, as pytest-xdist names and counts it; else all there are."""
    number = int(environment.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (HIGHEST - LOWEST + 1) // int(environment.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return LOWEST + number * share, LOWEST + (number + 1) * share - 1


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
