"""What a look at one platform yields: values, each with why; how sure it is; and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from agent.config import PlatformName
from agent.platforms.reading import Reader, Unreadable

SURE: Final = "sure"
LIKELY: Final = "likely"
ABSENT: Final = "absent"
Certainty = Literal["sure", "likely", "absent"]
ENDPOINTS = "etcd.endpoints"
CA_CERT = "etcd.ca_cert"
CERT = "etcd.cert"
KEY = "etcd.key"
DATA_DIR = "etcd.data_dir"
KUBECONFIG = "kubernetes.kubeconfig"
KEYS = (ENDPOINTS, CA_CERT, CERT, KEY, DATA_DIR, KUBECONFIG)


@dataclass(frozen=True)
class Value:
    """One value as text, and where it was read: a file with its line, flag or key."""

    text: str
    why: str


@dataclass(frozen=True)
class Trouble:
    """What could not be found or does not hold, and what to do about it."""

    message: str
    hint: str


@dataclass(frozen=True)
class Finding:
    """One platform as seen on this node.

    `sure`: it is there and in use. `likely`: its files are there, what would start it was not seen. `absent`: not here,
    or not with an etcd of its own; `reason` says why. `material` names the files whose fingerprints a manifest holds.
    """

    platform: PlatformName
    certainty: Certainty
    reason: str
    looked_at: tuple[str, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    tools: str = ""
    material: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Draft:
    """A finding in the making."""

    platform: PlatformName
    reader: Reader
    values: dict[str, Value] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    material: dict[str, str] = field(default_factory=dict)

    def trouble(self, message: str, hint: str) -> None:
        """Adds what is wrong."""
        self.troubles.append(Trouble(message, hint))

    def unreadable(self, error: Unreadable) -> None:
        """Adds what could not be read."""
        self.trouble(error.reason, error.hint)

    def finish(self, certainty: Certainty, reason: str, *, tools: str = "") -> Finding:
        """The finding; one that is absent has no values."""
        looked_at = self.reader.looked_at
        if certainty == ABSENT:
            return Finding(self.platform, certainty, reason, looked_at, {}, tuple(self.troubles))
        return Finding(
            self.platform, certainty, reason, looked_at, self.values, tuple(self.troubles), tools, self.material
        )
