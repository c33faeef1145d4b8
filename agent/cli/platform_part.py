"""The part `platform` of `status`: what was found without configuration, why, and what does not hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.cli import tables
from agent.domain.cluster_health import Problem
from agent.errors import CommandMissing
from agent.node import Node
from agent.platforms import resolution
from agent.platforms.finding import ENDPOINTS
from agent.settings import DEFAULT

if TYPE_CHECKING:
    from rich.table import Table

PART = "platform"


def describe(node: Node, problems: list[Problem]) -> dict[str, Any]:
    """What was found, for the document; adds what is wrong with it. Raises ConfigError: several platforms."""
    resolved = node.resolved
    chosen = resolved.detection.chosen
    troubles = [*resolved.troubles, *resolution.unusable_files(resolved.config)]
    told = dict.fromkeys((trouble.message, trouble.hint) for trouble in troubles)
    problems += [Problem(PART, message, hint) for message, hint in told]
    return {
        "configured": resolved.config.platform,
        "name": chosen.platform if chosen else None,
        "certainty": chosen.certainty if chosen else None,
        "why": chosen.reason if chosen else None,
        "tools": chosen.tools if chosen else None,
        "found": {key: {"value": one.text, "why": one.why} for key, one in (chosen.values.items() if chosen else ())},
        "others": {finding.platform: finding.reason for finding in resolved.detection.findings if finding != chosen},
        "looked_at": list(dict.fromkeys(path for one in resolved.detection.findings for path in one.looked_at)),
    }


def with_tools(node: Node, error: CommandMissing) -> CommandMissing:
    """A missing tool, with where the platform has it."""
    chosen = node.resolved.detection.chosen
    return CommandMissing(
        error.message, hint=f"{error.hint} ({chosen.platform}: {chosen.tools})" if chosen else error.hint
    )


def when_etcd_is_silent(node: Node) -> list[Problem]:
    """What to add where no etcd answers: nothing was found either, so the endpoint was a guess."""
    resolved = node.resolved
    if resolved.detection.chosen is not None or resolved.loaded.origins[ENDPOINTS] != DEFAULT:
        return []
    looked = "; ".join(f"{finding.platform}: {finding.reason}" for finding in resolved.detection.findings)
    return [Problem(PART, f"no etcd was found on this node: {looked}", "set etcd.endpoints, or `platform`")]


def line(part: Mapping[str, Any]) -> str:
    """The part in one line."""
    if part["name"] is None:
        return "none found; where nothing is configured the defaults count"
    return f"{part['name']}, {part['certainty']}: {part['why']}"


def block(part: Mapping[str, Any]) -> "Table":
    """What was found and why; where nothing was, what was looked for."""
    if part["name"] is None:
        return tables.pairs(part["others"].items())
    view = tables.table("FOUND", "VALUE", "WHERE")
    for key, one in part["found"].items():
        view.add_row(*(tables.plain(cell) for cell in (key, one["value"], one["why"])))
    view.add_row(*(tables.plain(cell) for cell in ("tools", part["tools"], "")))
    return view
