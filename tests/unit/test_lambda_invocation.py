"""A defect of our own in a handler: told under the trace by the line that ends it, and handed on to Lambda."""

import json
import logging
from collections.abc import Iterator

import pytest

from lambdas.invocation import Trigger, invocation

TRACE_ID = "697d9d40" + "1" * 24


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """Gives the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_defect_is_told_under_the_trace_and_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        invocation("service", "snapshot", Trigger(TRACE_ID, "snapshot-1111"), object()),
    ):
        raise ZeroDivisionError("a defect")
    failed = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (failed["event"], failed["error_code"]) == ("lambda.failed", "internal_error")
    assert failed["error_message"] == "ZeroDivisionError: a defect"
    assert failed["trace_id"] == TRACE_ID
