"""Operations of each slot for tests, beside those that exist."""

from typing import cast

from agent.domain.request import OPERATIONS, OperationKind


def register() -> None:
    """Makes them known in this process."""
    known = cast("dict[str, OperationKind]", OPERATIONS)
    known.setdefault("retire", OperationKind("retire", "membership", ssm_may_ask=True))
    known.setdefault("restore", OperationKind("restore", "restore", ssm_may_ask=True))
