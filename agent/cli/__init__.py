"""The command `etcd-agent`: one file per command group, each loaded only when it is used.

This is the edge that turns errors into a message and an exit code.
"""

import contextlib
import errno
import importlib
import json
import logging
import sys
from collections.abc import Sequence

import click

from agent import __version__
from agent.errors import EXIT_FAILED, AgentError, BadInput, NoSpace

COMMANDS = {
    "config": "agent.cli.config",
    "member": "agent.cli.member",
    "ops": "agent.cli.ops",
    "privileged": "agent.cli.run",
    "run": "agent.cli.run",
    "snapshot": "agent.cli.snapshot",
    "status": "agent.cli.status",
    "submit": "agent.cli.submit",
    "trace": "agent.cli.trace",
    "worker": "agent.cli.run",
}
HIDDEN = frozenset({"privileged", "worker"})
INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)
OF_THE_DISK = (*FULL, errno.EIO, errno.EROFS)
log = logging.getLogger(__name__)


class LazyGroup(click.Group):
    """Loads a command's module when the command is named, so that `submit` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS.keys() - HIDDEN)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="etcd-agent %(version)s")
@click.option(
    "--set", "flags", multiple=True, metavar="KEY=VALUE", help="A configuration value, such as log.level=DEBUG."
)
@click.pass_context
def cli(context: click.Context, flags: tuple[str, ...]) -> None:
    """Verified etcd backups and safe membership changes, with one trace id through it all."""
    context.obj = flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns the exit code: see `etcd-agent --help` and docs/operations.md."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=words, prog_name="etcd-agent", standalone_mode=False)
    except AgentError as error:
        return _told(error, words)
    except click.ClickException as error:
        error.show()
        _print_error(words, BadInput.code, error.format_message(), "")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # the reader went away; nothing is left to flush
        return EXIT_FAILED
    except PermissionError as error:
        return _told(AgentError(f"{error.filename}: permission denied", hint="run it as root, by sudo"), words)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            hint = "make room there" if error.errno in FULL else "look at that disk: `dmesg`"
            kind = NoSpace if error.errno in FULL and error.filename else AgentError
            return _told(kind(f"{error.filename or 'standard output'}: {error.strerror}", hint=hint), words)
        log.exception("unexpected error", extra={"event": "command.crashed"})
        told = AgentError(f"unexpected error: {type(error).__name__}: {error}", hint="please report this")
        return _told(told, words)
    return result if isinstance(result, int) else 0


def _told(error: AgentError, words: Sequence[str]) -> int:
    click.echo(f"etcd-agent: {error.message}", err=True)
    if error.hint:
        click.echo(f"  next: {error.hint}", err=True)
    _print_error(words, error.code, error.message, error.hint)
    return error.exit_code


def _print_error(words: Sequence[str], code: str, message: str, hint: str) -> None:
    """Who asked for JSON gets the error as JSON too; the sentence for people is on stderr already."""
    if "--json" in words:
        with contextlib.suppress(OSError):  # writing there may be what failed
            click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
