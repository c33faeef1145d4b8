"""The part `loss` of `status`: whether this cluster can lose a node now, and if not, why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.domain import node_loss, verdict
from agent.domain.cluster_health import Problem
from agent.domain.node_loss import NodeLoss

if TYPE_CHECKING:
    from agent.operations.membership_view import Sight

PART = "loss"


def describe(sight: "Sight", problems: list[Problem]) -> dict[str, Any]:
    """The guard's word for the document; a voter that is missing from the list shows nowhere else."""
    if sight.size is not None and len(sight.assessed.voters) < sight.size:
        told = f"{len(sight.assessed.voters)} voters are listed of the {sight.size} that the cluster is meant to have"
        problems.append(Problem(PART, told, "let the missing node join; `etcd-agent member list` shows who is there"))
    return document(node_loss.judge(sight.assessed, sight.size))


def document(loss: NodeLoss) -> dict[str, Any]:
    """Voters are null where the member list could not be had, the size where it is not on record."""
    return {
        "can_lose_one": loss.can_lose_one, "summary": loss.told, "rule": loss.rule,
        "survives_failure": loss.survives_failure, "removal": verdict.fields(loss.removal),
        "size": loss.size, "voters": loss.voters or None, "healthy_voters": loss.healthy if loss.voters else None,
    }  # fmt: skip


def line(part: Mapping[str, Any]) -> str:
    """The part in one line; why not is told below, in the guard's own words."""
    return str(part["summary"]) if part["can_lose_one"] else f"no, by {part['rule']}: see below"


def why_not(part: Mapping[str, Any] | None) -> str:
    """What is to be told below: empty where a node can be lost, and where nobody knows."""
    return "" if part is None or part["can_lose_one"] else f"{PART}: {part['summary']}"
