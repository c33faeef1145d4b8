"""Before an operation runs etcdctl: where that is copied out of the running etcd, it has to be there and to fit."""

import logging

from agent.domain.etcd_tools import same_minor
from agent.errors import CommandTimeout, EtcdError
from agent.logs import emit
from agent.operations.steps import Steps
from agent.ports import Etcd, Tools

log = logging.getLogger(__name__)


def prepare(etcd: Etcd, tools: Tools, steps: Steps) -> None:
    """Has the tools copied when there are none, or when etcd is of another minor version by now.

    Does nothing where the tools are installed. Raises what stands against a copy: no root service, no clear process.
    """
    if not tools.are_copied:
        return
    with steps.step("tools"):
        version = tools.version()
        emit(log, logging.INFO, "tools.ready", f"etcdctl {version}, copied out of the running etcd, works here",
             tools_version=version)  # fmt: skip
        try:
            running = etcd.status().version
        except (EtcdError, CommandTimeout):
            return  # the operation itself says what etcd lacks
        if same_minor(version, running):
            return
        emit(log, logging.WARNING, "tools.outdated", f"etcd is {running}, the copied tools are {version}: copied again",
             tools_version=version, etcd_version=running)  # fmt: skip
        tools.refresh()
        version = tools.version()
        if not same_minor(version, running):
            emit(log, logging.WARNING, "tools.other_minor", f"etcd is {running}, but comes with etcdctl {version}",
                 tools_version=version, etcd_version=running)  # fmt: skip
