"""Looking at the cluster: the local member first, then every listed member by its own client URLs, side by side."""

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from agent.domain.cluster import EndpointStatus, Member
from agent.domain.cluster_health import Answer, ClusterView
from agent.errors import AgentError
from agent.ports import Etcd

MOST_AT_ONCE = 8


def look(etcd: Etcd, own: EndpointStatus, at: Callable[[str], Etcd]) -> ClusterView:
    """The cluster as seen from here; `at` gives the door to another endpoint. Raises what listing the members does."""
    members, alarms = etcd.members(), etcd.alarms()
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        # Threads inherit no context: each call gets a copy, so that its child process carries the trace.
        pending = [pool.submit(contextvars.copy_context().run, _ask, member, own, at) for member in members]
        return ClusterView(own, [answer.result() for answer in pending], alarms)


def _ask(member: Member, own: EndpointStatus, at: Callable[[str], Etcd]) -> Answer:
    if member.member_id == own.member_id:
        return Answer(member, own)
    silence = "it names no client URL"
    for url in member.client_urls:
        try:
            return Answer(member, at(url).status())
        except AgentError as error:  # silence is an answer too: it is what this look is for
            silence = error.message
    return Answer(member, None, silence)
