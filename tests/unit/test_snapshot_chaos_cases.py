"""Cases of the suite `snapshots` are text that says all of a case; seeds deal out every stage and fault."""

import pytest

from tests.chaos import aftermath, snapshot_cases, snapshot_faults
from tests.chaos.snapshot_report import counts_of, row_of
from tests.chaos.verdict import Verdict

EVERY = [case for seed in range(1, 101) for case in snapshot_cases.of_seed(seed)]


def test_a_case_says_all_of_itself() -> None:
    case = snapshot_cases.parse("s3 middle ship-part@2-after kill-worker twice")
    assert (case.store, case.size, case.call, case.fault, case.times) == ("s3", "middle", "part", "kill-worker", 2)
    assert (case.is_shipping, case.starts_without_store, case.is_at_call) == (True, True, True)
    assert not snapshot_cases.parse("s3 small save@50 kill-worker once").is_at_call
    assert snapshot_cases.parse("s3 small preflight@3 deny ever").call == "list"


@pytest.mark.parametrize(
    "text",
    [
        "", "s3 small part@1 deny", "tape small part@1 deny once", "s3 huge part@1 deny once",
        "s3 small part@9 deny once", "s3 small part@2 deny once", "s3 small part@1 flood once",
        "s3 small part@1 deny often", "directory small part@1 deny once", "directory small data@named deny once",
    ],
)  # fmt: skip
def test_what_is_no_case_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no case"):
        snapshot_cases.parse(text)


def test_the_seeds_meet_every_stage_and_fault_in_both_stores_and_are_the_same_again() -> None:
    assert len(EVERY) == 100 * snapshot_cases.CASES_PER_SEED
    parsed = [snapshot_cases.parse(text) for text in EVERY]
    assert {(case.store, case.stage, case.fault) for case in parsed} == set(snapshot_cases.combinations())
    assert {case.size for case in parsed} == set(snapshot_cases.SIZES)
    assert {case.repeat for case in parsed} == set(snapshot_cases.REPEATS)
    assert snapshot_cases.of_seed(7) == snapshot_cases.of_seed(7) == EVERY[24:28]


def test_every_case_that_is_not_at_a_call_or_a_tool_has_a_point_of_its_own() -> None:
    for store, stage, fault in snapshot_cases.combinations():
        for position in snapshot_cases.stages(store)[stage][fault]:
            case = snapshot_cases.parse(f"{store} large {stage}@{position} {fault} once")
            in_agent = position != "tool" and not position[0].isdigit()
            if in_agent:
                point = snapshot_faults.point_of(case)
                assert point.startswith("worker:"), case.text
                assert point.count(":") == 4, case.text


def test_data_without_a_manifest_are_allowed_only_between_the_two() -> None:
    def most(text: str, hits: int = 9, attempts: int = 3) -> int:
        return aftermath.most_unlisted(snapshot_cases.parse(text), hits, attempts)

    assert most("s3 small complete@1-after kill-worker once", hits=1) == 1
    assert most("s3 small manifest@1 deny ever", attempts=2) == 2
    assert most("s3 small part@1 deny ever") == 0
    assert most("s3 small verify@leaving kill-worker ever") == 0
    assert most("s3 small ship-manifest@1 deny ever") == 0
    assert most("directory small data@named kill-worker once", hits=1) == 1
    assert most("directory small manifest@begin full-store ever") == 0
    assert most("directory small ship-manifest@synced deny ever", hits=1) == 1
    assert most("directory small data@synced deny ever") == 0


def test_the_table_counts_by_stage_and_fault() -> None:
    assert row_of(Verdict("s3 small part@1 throttle ever")) == ("s3: part", "throttled")
    assert row_of(Verdict("directory small save@50 kill-worker once")) == ("save", "kill -9 of worker")
    assert row_of(Verdict("s3 small preflight@3 stall once")) == ("s3: preflight", "stalled")
    skipped = Verdict("directory small data@mid full-store once", skipped="needs root")
    met = Verdict("s3 small part@1 deny ever", hits=6, kept=1, shipped=1, problems=["two"])
    counts = counts_of([skipped, met, Verdict("s3 small part@1 deny once")])
    assert [counts[name] for name in ("runs", "met", "not met", "skipped", "kept", "shipped", "broken")] == [
        2, 1, 1, 1, 1, 1, 1,
    ]  # fmt: skip
