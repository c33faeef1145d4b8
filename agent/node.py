"""This node as configured and as found: what the wiring and the commands are given."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agent.adapters import files
from agent.adapters.spool import Spool
from agent.config import Config, EtcdConfig, Paths
from agent.errors import ConfigError
from agent.settings import Loaded, load

if TYPE_CHECKING:
    from agent.platforms.resolution import Resolved


@dataclass(frozen=True)
class Node:
    """This node: paths, the configuration as somebody wrote it, and what was found where nobody wrote anything.

    `config` knows nothing of the platform; whoever needs etcd or Kubernetes asks `etcd` and `resolved`, which look for
    it once, when they are first asked. So a command that only queues a request neither looks nor fails by it.
    """

    paths: Paths
    loaded: Loaded
    flags: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The configuration without what can be found; of its tables `etcd` and `kubernetes` are not for use."""
        return self.loaded.config

    @cached_property
    def resolved(self) -> "Resolved":
        """With what the platform says. Raises ConfigError: several platforms, or a certificate without its key."""
        from agent.platforms.resolution import resolve

        return resolve(self.loaded, self.paths)

    @property
    def etcd(self) -> EtcdConfig:
        """How the local member is reached, and where its data is. Raises ConfigError, as `resolved`."""
        return self.resolved.config.etcd

    @property
    def spool(self) -> Spool:
        """The node's spool; it need not exist."""
        return Spool(self.paths.spool)

    @property
    def look_op_id(self) -> str:
        """The op id of this node's looks at its schedule: one for all, so that the newest look is all that is kept."""
        return f"schedule-{hashlib.sha256(self.config.node.name.encode()).hexdigest()[:16]}"

    @property
    def daemon_is_there(self) -> bool:
        """Whether a daemon holds its lock. Raises ConfigError when this user may not ask."""
        try:
            return files.is_locked(self.paths.daemon_lock)
        except PermissionError:
            raise ConfigError(
                f"{self.paths.daemon_lock} can not be read by this user", hint="run it as root, by sudo"
            ) from None


def load_node(flags: Sequence[str] = ()) -> Node:
    """Reads the configuration. Raises ConfigError with every problem."""
    paths = Paths.from_environment(os.environ)
    return Node(paths, load(paths, os.environ, flags), tuple(flags))
