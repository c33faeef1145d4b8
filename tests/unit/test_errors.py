"""Errors: every kind has its own stable code, an exit code of the contract, and survives its way into a result."""

import re
from collections.abc import Iterator

import pytest

from agent import errors
from agent.errors import AgentError, exit_code_of

CONTRACT_EXIT_CODES = {1, 2, 3, 4, 5}
REBOOTS_UNDER_SSM = 194


def kinds(kind: type[AgentError] = AgentError) -> Iterator[type[AgentError]]:
    for below in kind.__subclasses__():
        yield below
        yield from kinds(below)


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes)) > 20
    assert all(re.fullmatch(r"[a-z][a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_an_exit_code_can_be_found_again_by_the_code_in_a_result(kind: type[AgentError]) -> None:
    assert kind.exit_code in CONTRACT_EXIT_CODES
    assert kind.exit_code != REBOOTS_UNDER_SSM
    assert exit_code_of(kind.code) == kind.exit_code


@pytest.mark.parametrize("code", ["", "of_another_version", "internal_error", "failed"])
def test_a_code_that_this_version_does_not_know_is_a_failure(code: str) -> None:
    assert exit_code_of(code) == errors.EXIT_FAILED


def test_only_what_a_later_try_may_cure_is_retryable() -> None:
    assert {kind.code for kind in kinds() if kind.retryable} == {
        "aws_credentials", "aws_unavailable", "command_killed", "command_timeout", "deadline_exceeded",
        "etcd_outcome_unknown", "etcd_process_unclear", "root_service_failed",
        "etcd_unavailable", "file_unusable", "no_space", "spool_full", "store_key_taken", "worker_crashed",
    }  # fmt: skip


def test_an_error_says_what_failed_and_what_to_check() -> None:
    error = errors.Refused("no quorum", rule="no-leader", hint="repair a member")
    assert (str(error), error.message, error.rule, error.hint) == (
        "no quorum", "no quorum", "no-leader", "repair a member",
    )  # fmt: skip
