"""Which node is asked: one for all duplicates of an event, and over many events each about as often."""

import hashlib
from collections import Counter

import pytest

from lambdas.dispatch import choose

NODES = [f"i-{number:017x}" for number in range(5)]


def op_ids(count: int) -> list[str]:
    return [f"snapshot-{hashlib.sha256(str(number).encode()).hexdigest()[:16]}" for number in range(count)]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_thousand_operations_spread_over_the_nodes(size: int) -> None:
    asked = Counter(choose(op_id, NODES[:size]) for op_id in op_ids(1000))
    assert len(asked) == size
    assert min(asked.values()) > 0.75 * 1000 / size


def test_the_order_of_the_nodes_does_not_matter() -> None:
    for op_id in op_ids(100):
        assert choose(op_id, NODES) == choose(op_id, reversed(NODES))


def test_a_node_that_goes_moves_only_its_own_operations() -> None:
    for op_id in op_ids(300):
        before = choose(op_id, NODES)
        after = choose(op_id, [node for node in NODES if node != NODES[0]])
        assert before in (NODES[0], after)


def test_the_rule_is_the_one_that_other_triggers_may_compute() -> None:
    assert choose("snapshot-0000000000000000", NODES) == sorted(
        NODES, key=lambda node: hashlib.sha256(f"snapshot-0000000000000000|{node}".encode()).hexdigest()
    )[-1]  # fmt: skip
