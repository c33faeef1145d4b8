"""Looking at the cluster: the local member first, then every listed member by its own client URLs, side by side."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from agent.domain import cluster
from agent.domain.cluster import EndpointStatus, Member
from agent.domain.cluster_health import Answer, ClusterView
from agent.errors import AgentError
from agent.ports import Etcd

MOST_AT_ONCE = 8


def look(etcd: Etcd, own: EndpointStatus, at: Callable[[str], Etcd]) -> ClusterView:
    """The cluster as seen from here; `at` gives the door to another endpoint. Raises what listing the members does."""
    members, alarms = etcd.members(), etcd.alarms()
    return ClusterView(own, ask(members, own, at), alarms)


def ask(members: Sequence[Member], own: EndpointStatus, at: Callable[[str], Etcd]) -> list[Answer]:
    """What each listed member says of itself, or why it says nothing; in the order of the list."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        # Threads inherit no context: each call gets a copy, so that its child process carries the trace.
        pending = [pool.submit(contextvars.copy_context().run, _ask, member, own, at) for member in members]
        return [answer.result() for answer in pending]


def _ask(member: Member, own: EndpointStatus, at: Callable[[str], Etcd]) -> Answer:
    """The member's own word; where only others answer at its URLs, which a loopback address leads to, that of one."""
    if member.member_id == own.member_id:
        return Answer(member, own)
    silence, of_another = "it names no client URL that can be reached from another node", None
    for url in cluster.usable_urls(member):
        try:
            status = at(url).status()
        except AgentError as error:  # silence is an answer too: it is what this look is for
            silence = error.message
            continue
        if status.member_id == member.member_id:
            return Answer(member, status)
        of_another = status
    return Answer(member, of_another, silence)
