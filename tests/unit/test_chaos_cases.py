"""Cases are text that says all of a case; seeds deal the matrix out, each case to one of them."""

import pytest

from tests.chaos import cases
from tests.chaos.__main__ import seeds_in
from tests.chaos.request_report import counts_of, row_of
from tests.chaos.verdict import Verdict

POINTS = {
    store: [
        "submit:link:spool/incoming:1:before", "daemon:link:spool/running:1:after", "worker:step:save:1:entered",
        "worker:spawn:etcdctl.snapshot-save:1:before", "worker:rename:spool/progress:3:before",
        "worker:unlink:spool/running:1:before",
    ]
    for store in (*cases.STORES, *cases.WAYS_OF_ENDING_OTHERWISE)
} | {"cancel": ["cancel:link:spool/cancel:1:before", "daemon:link:spool/running:1:after"]}  # fmt: skip


def test_every_case_of_the_matrix_can_be_read_and_says_what_it_is() -> None:
    matrix = cases.matrix(POINTS)
    assert len(matrix) == len(set(matrix))
    for text in matrix:
        assert cases.parse(text).text == text
    assert any(text.endswith("worker:unlink:spool/running:1:before>node") for text in matrix)
    assert not any("spool/progress:3" in text for text in matrix)
    assert [text for text in matrix if " cancel " in text] == [
        f"directory cancel cancel:link:spool/cancel:1:before>{victim}" for victim in ("self", "node")
    ]
    case = cases.parse("s3 twice/old tool:7:at-50 at-350>daemon worker:step:save:1:entered>self")
    assert (case.store, case.way, case.agent, case.tool_kill) == ("s3", "twice", "old", (7, "at-50"))
    assert [injection.at_ms for injection in case.injections] == [-1, 350, -1]
    assert case.at_points == [{"point": "worker:step:save:1:entered", "victim": "self"}]


@pytest.mark.parametrize("text", ["", "s3", "tape submit", "s3 submit nothing", "s3 submit tool:1:never", "s3 twice"])
def test_what_is_no_case_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no case"):
        cases.parse(text)


def test_all_seeds_together_hold_the_matrix_once_and_a_seed_is_the_same_again() -> None:
    matrix = cases.matrix(POINTS)
    every = [case for seed in range(1, cases.MATRIX_SEEDS + 1) for case in cases.of_seed(seed, matrix)]
    assert set(matrix) <= set(every)
    assert len(every) == len(matrix) + cases.CHANCES_PER_SEED * cases.MATRIX_SEEDS
    assert cases.of_seed(3, matrix) == cases.of_seed(3, matrix)
    for text in every:
        cases.parse(text)


def test_the_table_counts_by_fault_and_place() -> None:
    assert row_of(Verdict("s3 submit worker:step:save:1:entered>self")) == ("kill -9 of worker", "worker: step save")
    assert row_of(Verdict("s3 submit worker:step:save:1:entered>node")) == ("kill -9 of all", "worker: step save")
    assert row_of(Verdict("s3 submit at-20>stop")) == ("SIGTERM to daemon", "any instant")
    assert row_of(Verdict("s3 cancelled-20/old")) == ("delivery", "cancelled")
    missed = Verdict("s3 submit at-20>worker", outcome="done")
    hit = Verdict("s3 submit at-20>worker", problems=["two"], crashes=1, outcome="done", generations=2, doubled=1)
    counts = counts_of([missed, hit])
    assert [counts[name] for name in ("runs", "crashes", "not reached", "asked again", "doubled", "broken")] == [
        2, 1, 1, 1, 1, 1,
    ]  # fmt: skip


def test_seeds_are_numbers_and_ranges() -> None:
    assert seeds_in("1-3,9") == [1, 2, 3, 9]
