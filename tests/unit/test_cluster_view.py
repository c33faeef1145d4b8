"""Looking at the members: each one's own word counts, whoever else answers at one of its URLs."""

from dataclasses import replace

from agent.domain.cluster_health import Answer
from agent.operations import cluster_view
from tests.unit.fakes import OTHER, OWN, STATUS, FakeEtcd, member, no_door

LOOPBACK, OWN_URL = "https://127.0.0.1:2379", "https://10.0.0.2:2379"
TOLD = replace(STATUS, member_id=OTHER, endpoint=OWN_URL)


def asked(*urls: str, **doors: FakeEtcd) -> Answer:
    others = {LOOPBACK: FakeEtcd(), OWN_URL: FakeEtcd(statuses=[TOLD])} | doors
    one = replace(member(OTHER, 2), client_urls=urls)
    (answer,) = cluster_view.ask([one], STATUS, lambda url: others.get(url) or no_door(url))
    return answer


def test_a_loopback_url_that_leads_to_this_nodes_member_is_passed_by_for_the_next() -> None:
    assert asked(LOOPBACK, OWN_URL).status == TOLD


def test_where_only_another_member_answers_its_word_shows_that() -> None:
    status = asked(LOOPBACK, "https://away:2379").status
    assert status is not None
    assert status.member_id == OWN


def test_an_address_to_listen_on_is_never_asked() -> None:
    answer = asked("https://0.0.0.0:2379", **{"https://0.0.0.0:2379": FakeEtcd()})
    assert answer.status is None
    assert "no client URL that can be reached" in answer.silence
