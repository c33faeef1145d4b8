"""Ports for the sandbox's servers: below the ephemeral range, probed just before use, each given out once."""

import random
import socket

LOWEST, HIGHEST = 20000, 32767
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nothing listens on at that address. Raises RuntimeError when a hundred are taken."""
    for _ in range(100):
        port = random.SystemRandom().randint(LOWEST, HIGHEST)
        if port not in _given and _can_bind(address, port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST} on {address}")


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
