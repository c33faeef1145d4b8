"""What commands that only read share: the node, a trace for their calls, and clear words where a right is missing."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence

from agent import __version__, logs, trace
from agent.bootstrap import SERVICE
from agent.cli.asking import inherited_trace
from agent.errors import AgentError, StoreError
from agent.node import Node, load_node

SUDO = "run it as root, by sudo"


@contextlib.contextmanager
def reading(flags: Sequence[str]) -> Iterator[Node]:
    """The node, with the caller's trace bound. Log lines go to stderr alone: a reader owns no log file."""
    node = load_node(flags)
    logs.configure(
        service=SERVICE, version=__version__, level=node.config.log.level, stream_level="WARNING",
        fields={"cluster": node.config.cluster, "node": node.config.node.name},
    )  # fmt: skip
    inherited = inherited_trace(os.environ)
    try:
        with (
            trace.bound(trace_id=inherited.trace_id, parent_span_id=inherited.parent_span_id),
            trace.span(),
            _told_by_the_command_alone("agent.operations"),
        ):
            yield node
    except StoreError as error:
        if is_permission(error):
            raise AgentError(error.message, hint=SUDO) from error
        raise


@contextlib.contextmanager
def _told_by_the_command_alone(name: str) -> Iterator[None]:
    """Keeps lines back whose content the command prints in its own words, such as a damaged manifest."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_permission(error: BaseException) -> bool:
    """Whether a missing right is what is behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PermissionError):
            return True
        cause = cause.__cause__
    return False


def require_spool(node: Node) -> None:
    """Raises AgentError where the agent never ran, PermissionError where this user may not look."""
    if not node.paths.spool.exists():
        raise AgentError(
            f"{node.paths.spool} does not exist: no agent ever ran here",
            hint="start it: `systemctl start etcd-agent`",
        )
    node.spool.names("incoming")  # a record in a folder that may not be read would look like a damaged one
