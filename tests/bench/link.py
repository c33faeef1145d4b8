"""A network link of a given rate to a server in a network namespace of its own."""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

LIMITED = "800mbit"


@dataclass(frozen=True)
class Link:
    """The way to a server: its address, and the words before a command that make it run at the other end."""

    name: str
    address: str
    enter: tuple[str, ...] = ()


LOOPBACK = Link("unlimited", "127.0.0.1")


def why_not() -> str:
    """What is missing for a limited link, "" when nothing is."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    return f"{' and '.join(missing)} missing (package iproute2)" if missing else ""


@contextlib.contextmanager
def limited(rate: str = LIMITED) -> Iterator[Link]:
    """A veth pair, both ends slowed to the rate by a token bucket. Raises CalledProcessError where that can not be."""
    tag = secrets.token_hex(3)
    near, far, space = f"ea{tag}n", f"ea{tag}f", f"ea-{tag}"
    _run("ip", "netns", "add", space)
    try:
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        _run("ip", "address", "add", "10.213.77.1/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        inside = ("ip", "netns", "exec", space)
        for words in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "address", "add", "10.213.77.2/30", "dev", far),
            ("ip", "link", "set", far, "up"),
        ):
            _run(*inside, *words)
        bucket = ("root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
        _run("tc", "qdisc", "add", "dev", near, *bucket)
        _run(*inside, "tc", "qdisc", "add", "dev", far, *bucket)
        yield Link(rate, "10.213.77.2", inside)
    finally:
        subprocess.run(["ip", "link", "delete", near], capture_output=True, check=False)
        _run("ip", "netns", "delete", space)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
