"""`config show`: each value with where it came from."""

import click

from agent import config as configuration
from agent.cli import tables
from agent.node import load_node


@click.group()
def config() -> None:
    """The configuration as this node reads it."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def show(flags: tuple[str, ...], as_json: bool) -> None:
    """Every key with its value and its origin: default, file, variable or flag.

    The configuration holds paths of keys and certificates, never a secret; so nothing is masked.
    """
    node = load_node(flags)
    config, origins = node.resolved.config, node.resolved.loaded.origins
    values = {key: configuration.value_of(config, key) for key in origins}
    if as_json:
        tables.print_json(
            {
                "file": str(node.paths.config_file),
                "values": {key: {"value": value, "origin": origins[key]} for key, value in values.items()},
            }
        )
        return
    rows = tables.table("KEY", "VALUE", "ORIGIN")
    for key, value in values.items():
        origin = origins[key]
        style = "dim" if origin == "default" else ""
        rows.add_row(*(tables.plain(text, style) for text in (key, _shown(value), origin)))
    screen = tables.console()
    screen.print(rows)
    if not node.paths.config_file.exists():
        screen.print(tables.plain(f"\n{node.paths.config_file} does not exist; it need not", "dim"))


def _shown(value: object) -> str:
    return '""' if value == "" else tables.shown(value)
