"""The claim of a cluster-wide operation, one decision at a time; `test_change_model.py` lets many interleave."""

import pytest

from agent.domain.op_claim import (
    RENEW_S,
    STALE_S,
    OpClaim,
    Stand,
    State,
    Stored,
    Watched,
    Write,
    decide,
    decode,
    encode,
    is_own,
    key,
    renewed,
    watch,
)
from agent.errors import BadInput

OP = "retire-0123456789abcdef"
TRACE = "3" * 32


def stored(executor: str = "i-1", generation: int = 1, state: State = "running", revision: int = 7) -> Stored:
    return Stored(OpClaim(OP, executor, state, generation, TRACE), revision)


def asked(found: Stored | None, watched: Watched | None = None, now_s: float = 0.0) -> Write | Stand:
    return decide(OP, "i-2", TRACE, found, watched, now_s=now_s)


def test_who_finds_no_claim_makes_one_under_the_condition_that_there_is_none() -> None:
    assert asked(None) == Write(OpClaim(OP, "i-2", "running", 1, TRACE), 0, "new")


def test_another_ones_is_left_until_it_was_seen_unchanged_for_90_seconds() -> None:
    watched = watch(None, 7, now_s=100.0, boot_id="b")
    assert isinstance(asked(stored(), watched, 100.0 + STALE_S - 1), Stand)
    taken = asked(stored(state="parked"), watched, 100.0 + STALE_S)
    assert isinstance(taken, Write)
    assert (taken.claim.executor, taken.claim.generation, taken.claim.state) == ("i-2", 2, "running")
    assert taken.if_mod_revision == 7
    assert isinstance(asked(stored(), None, 1e6), Stand)
    assert isinstance(asked(stored(revision=8), watched, 1e6), Stand)


def test_each_renewal_a_boot_and_a_clock_that_went_back_begin_the_watch_anew() -> None:
    watched = watch(None, 7, now_s=100.0, boot_id="b")
    assert watch(watched, 7, now_s=150.0, boot_id="b").since_s == 100.0
    assert watch(watched, 8, now_s=150.0, boot_id="b").since_s == 150.0
    assert watch(watched, 7, now_s=150.0, boot_id="c").since_s == 150.0
    assert watch(watched, 7, now_s=50.0, boot_id="b").since_s == 50.0


def test_its_own_is_renewed_and_gets_another_mod_revision_each_time() -> None:
    again = asked(stored("i-2", generation=3))
    assert isinstance(again, Write)
    assert (again.claim.generation, again.claim.renewals, again.if_mod_revision) == (3, 1, 7)
    assert encode(renewed(stored()).claim) != encode(stored().claim)
    assert renewed(stored(), "parked").claim.state == "parked"
    assert RENEW_S * 2 < STALE_S


@pytest.mark.parametrize("state", ["succeeded", "failed", "refused"])
def test_one_that_ended_is_nobodys(state: State) -> None:
    watched = watch(None, 7, now_s=0.0, boot_id="b")
    assert asked(stored(state=state), watched, 1e6) == Stand(stored(state=state).claim, "it has ended")
    assert not is_own(stored(state=state), "i-1", 1)
    again = decide(OP, "i-2", TRACE, stored(state=state), None, now_s=0.0, again=True)
    assert isinstance(again, Stand) if state == "succeeded" else again.claim.generation == 2


def test_an_act_is_its_executors_in_its_generation_alone() -> None:
    assert is_own(stored(), "i-1", 1)
    assert not is_own(stored(), "i-1", 2)
    assert not is_own(stored("i-2"), "i-1", 1)
    assert not is_own(None, "i-1", 1)


def test_a_claim_that_can_not_be_read_is_not_taken_for_none() -> None:
    assert decode(encode(stored().claim)) == stored().claim
    assert key(OP) == "/etcd-agent/v1/ops/retire-0123456789abcdef"
    for broken in (b"", b"{}", encode(stored().claim).replace(b'"generation":1', b'"generation":0')):
        with pytest.raises(BadInput):
            decode(broken)
