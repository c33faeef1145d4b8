"""The lock and the intent, one decision at a time; `test_change_model.py` lets many agents interleave."""

import pytest

from agent.domain.change_lock import (
    ACT_S,
    LEASE_S,
    WITHDRAW_S,
    Found,
    Intent,
    Lock,
    decode,
    encode,
    finish,
    intent_of,
    is_current,
    is_done,
    may_act,
)
from agent.domain.cluster import Member
from agent.domain.verdict import JOINER, Margin, Plan, Refusal, Step
from agent.errors import BadInput

MEMBERS = (Member(0xA1, "m1", ("https://10.0.0.1:2380",), (), False), Member(0xA2, "", ("https://b:2380",), (), True))
ALLOWED = Plan("remove", "G1", (), Margin(2, 2))
REFUSED = Refusal("remove", "G1", "one is missing", "repair it")


def intent(step: Step) -> Intent:
    return intent_of(step, MEMBERS, "operator", op_id="retire-0123456789abcdef", executor="i-1", trace_id="5" * 32)


REMOVE = intent(Step("remove", 0xA1, ""))
ADD = intent(Step("add-learner", JOINER, "", ("https://c:2380",)))
PROMOTE = intent(Step("promote", 0xA2, ""))


def test_an_act_needs_the_lock_by_a_fresh_read_and_time_enough_by_the_own_clock() -> None:
    lock = Lock(create_revision=5, lease_id=1, alive_s=100.0)
    assert may_act(lock, 5, now_s=100.0 + LEASE_S - ACT_S)
    assert not may_act(lock, 5, now_s=100.1 + LEASE_S - ACT_S)
    assert not may_act(lock, 6, now_s=100.0)
    assert not may_act(lock, None, now_s=100.0)


def test_the_list_shows_whether_it_was_done() -> None:
    assert not any(is_done(one, MEMBERS) for one in (REMOVE, ADD, PROMOTE))
    after = (
        Member(0xA2, "m2", ("https://b:2380",), (), False),
        Member(0xA3, "", ("https://c:2380",), (), True),
    )
    assert all(is_done(one, after) for one in (REMOVE, ADD, PROMOTE))
    assert not is_done(PROMOTE, MEMBERS[:1])  # one that is gone was not promoted
    assert is_current(REMOVE, MEMBERS)
    assert not is_current(REMOVE, after)


def test_a_found_intent_is_cleared_done_waited_for_or_withdrawn() -> None:
    found = Found(REMOVE, 9, since_s=100.0)
    assert finish(found, MEMBERS[1:], REFUSED, now_s=100.0) == "clear"
    assert finish(found, MEMBERS, ALLOWED, now_s=100.0) == "act"
    assert finish(found, MEMBERS, REFUSED, now_s=99.0 + WITHDRAW_S) == "wait"
    assert finish(found, MEMBERS, REFUSED, now_s=100.0 + WITHDRAW_S) == "withdraw"
    assert finish(found, MEMBERS, ALLOWED, now_s=100.0 + WITHDRAW_S) == "act"


def test_an_intent_is_read_as_it_was_written_or_not_at_all() -> None:
    for one in (REMOVE, ADD, PROMOTE):
        assert decode(encode(one)) == one
    with pytest.raises(BadInput):
        decode(b'{"verb":"defrag"}')
    with pytest.raises(ValueError, match="changes no list"):
        intent(Step("defrag", 0xA1, ""))
