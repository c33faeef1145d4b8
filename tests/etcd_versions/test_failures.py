"""What does not work has its class and a hint on each version: retryable, outcome unknown, hard stop, bad input."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from agent.adapters.etcdctl import Etcdctl
from agent.errors import AgentError, BadInput, EtcdAnswerInvalid, EtcdError, EtcdOutcomeUnknown, EtcdUnavailable
from tests.etcd_versions import servers
from tests.etcd_versions.servers import Servers
from tests.sandbox.certificates import Certificate
from tests.sandbox.etcd_cluster import frozen
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.etcd]
SHORT_S = 1
READS: list[Callable[[Etcdctl], object]] = [
    Etcdctl.status, Etcdctl.members, Etcdctl.alarms, Etcdctl.linearizable_revision, lambda client: client.count_keys(1),
]  # fmt: skip


def failures_of(client: Etcdctl) -> list[AgentError]:
    """The errors of every read, made side by side: what they do is wait."""
    with ThreadPoolExecutor(len(READS)) as pool:
        return list(pool.map(lambda read: failure_of(partial(read, client)), READS))


def failure_of(call: Callable[[], object]) -> AgentError:
    """The error of a call; each has a message that names the place, and a hint."""
    with pytest.raises((EtcdError, BadInput)) as caught:
        call()
    assert caught.value.hint
    return caught.value


def with_certificate(server: Servers, certificate: Certificate) -> Etcdctl:
    return server.with_config(cert=str(certificate.cert), key=str(certificate.key), call_timeout_s=SHORT_S)


def test_nothing_works_at_a_dead_endpoint_and_a_later_try_may(server: Servers) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    dead = server.with_config(endpoints=(url,), call_timeout_s=SHORT_S)
    for error in failures_of(dead):
        assert isinstance(error, EtcdUnavailable | EtcdOutcomeUnknown)
        assert error.retryable
        assert url in error.message
    assert isinstance(failure_of(dead.status), EtcdUnavailable)


def test_a_member_that_hangs_is_told_within_the_time_of_a_call(server: Servers, tmp_path: Path) -> None:
    client = server.with_config(call_timeout_s=SHORT_S)
    with frozen(server.member):
        for error in failures_of(client):
            assert isinstance(error, EtcdUnavailable | EtcdOutcomeUnknown)
            assert error.retryable
        save = failure_of(
            lambda: client.save_snapshot(tmp_path / "snapshot.db", timeout_s=SHORT_S, on_bytes=lambda done: None)
        )
        assert save.retryable
    assert list(tmp_path.iterdir()) == []
    assert server.client.status().is_leader


def test_a_server_of_another_authority_is_no_matter_of_trying_again(server: Servers) -> None:
    client = server.with_config(ca_cert=str(server.stranger.ca_cert), call_timeout_s=SHORT_S)
    for read, error in zip(READS, failures_of(client), strict=True):
        if read is Etcdctl.status or server.version != "3.4":  # in other calls 3.4 does not say why
            assert "x509" in error.message
            assert not error.retryable
            assert "etcd.ca_cert" in error.hint
        else:
            assert "etcd.cert" in error.hint


@pytest.mark.parametrize("kind", ["another authority", "expired", "none"])
def test_a_client_certificate_that_does_not_fit_is_hinted_at(server: Servers, tmp_path: Path, kind: str) -> None:
    """Versions and moments differ in whether TLS tells the client why, or only breaks the connection."""
    if kind == "none":
        client = server.with_config(cert="", key="", call_timeout_s=SHORT_S)
    elif kind == "expired":
        yesterday = datetime.now(UTC) - timedelta(days=1)
        client = with_certificate(server, server.cluster.authority.issue("expired", "127.0.0.1", ends_at=yesterday))
    else:
        client = with_certificate(server, server.stranger.issue("client", "127.0.0.1"))
    error = failure_of(client.status)
    assert type(error) in (EtcdError, EtcdUnavailable)
    assert "etcd.cert" in error.hint
    with pytest.raises(EtcdError):
        client.save_snapshot(tmp_path / "snapshot.db", timeout_s=SHORT_S, on_bytes=lambda done: None)
    assert list(tmp_path.iterdir()) == []


def test_no_tls_on_a_port_with_tls_is_hinted_at(server: Servers) -> None:
    plain = server.with_config(
        endpoints=(server.member.client_url.replace("https:", "http:"),), ca_cert="", cert="", key="",
        call_timeout_s=SHORT_S,
    )  # fmt: skip
    error = failure_of(plain.status)
    assert isinstance(error, EtcdUnavailable)
    assert "https://" in error.hint


def test_a_servers_certificate_that_expired_is_told_as_such(
    version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with servers.running(version, tools, tmp_path_factory.mktemp("expired"), size=1) as server:
        cluster, member = server.cluster, server.member
        cluster.stop_member(member)
        member.certificate = cluster.authority.issue("expired", member.address, ends_at=yesterday)
        cluster.start_member(member)
        status = server.with_config(call_timeout_s=SHORT_S).status
        wait_until(
            lambda: "certificate has expired" in failure_of(status).message, "it is not told", child=member.child
        )
        error = failure_of(status)
    assert not error.retryable
    assert "etcd.ca_cert" in error.hint


@pytest.mark.parametrize("key", ["ca_cert", "cert", "key"])
def test_a_certificate_that_is_not_there_is_bad_input(server: Servers, tmp_path: Path, key: str) -> None:
    error = failure_of(server.with_config(**{key: str(tmp_path / "none.pem")}).status)
    assert isinstance(error, BadInput)
    assert "no such file" in error.message
    assert "etcd.cert" in error.hint


@pytest.mark.parametrize("key", ["ca_cert", "cert", "key"])
def test_a_certificate_that_is_none_is_told(server: Servers, tmp_path: Path, key: str) -> None:
    (tmp_path / "odd.pem").write_text("this is no certificate\n")
    error = failure_of(server.with_config(**{key: str(tmp_path / "odd.pem")}, call_timeout_s=SHORT_S).status)
    assert not error.retryable
    assert "etcd.cert" in error.hint


def test_a_member_of_another_cluster_is_not_taken_for_ours(
    server: Servers, version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = server.client.status()
    with servers.running(version, tools, tmp_path_factory.mktemp("other"), size=1) as other:
        foreign = other.client.status()
        assert foreign.cluster_id != own.cluster_id
        assert foreign.member_id != own.member_id
        with pytest.raises(EtcdAnswerInvalid, match="answers as member"):
            other.client.linearizable_revision(other.member.client_url, member_id=own.member_id)
