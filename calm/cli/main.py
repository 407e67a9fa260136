"""The ``calm`` command: its groups, and how every ending becomes an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

import click

from calm.cli.exits import Exit
from calm.onhost.errors import place_of

_HOMES = {
    "calm.cli.fleet": ("validate", "plan", "apply", "status", "rollback", "remove", "unlock", "settings"),
    "calm.cli.host": (
        "snapshot",
        "check",
        "heal",
        "watch",
        "pause",
        "resume",
        "restart",
        "prune",
        "lmstudio",
        "journal",
    ),
    "calm.cli.startup": ("up", "down", "doctor"),
    "calm.cli.pull": ("pull",),
    "calm.cli.bench": ("bench", "llm"),
}
"""Where each command lives, so that ``calm snapshot`` does not import what only ``calm plan`` needs."""


class Commands(click.Group):
    """Finds a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for names in _HOMES.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for module, names in _HOMES.items():
            if cmd_name in names:
                commands: Sequence[click.Command] = import_module(module).COMMANDS
                return next(command for command in commands if command.name == cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'.{_meant(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _meant(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples: calm plan · calm apply · calm check · calm heal --dry-run",
)
@click.version_option(version("calm-stack"), prog_name="calm")
def calm() -> None:
    """Keeps LM Studio and its Docker back end calm.

    Plan shows what would change on the machines of an inventory, apply changes it, heal mends what
    misbehaves on this one.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of :class:`~calm.cli.exits.Exit`."""
    # Half of what a command does is to load libraries, none of which is garbage: look for it less often.
    gc.set_threshold(200_000)
    code = run(arguments)
    gc.freeze()  # else Python looks for garbage in all of it, a tenth of a second, before it ends
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing but a bug leaves a traceback."""
    try:
        result = calm.main(args=arguments, prog_name="calm", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        click.echo(f"calm: {error.format_message()}", err=True)
        return getattr(error, "code", Exit.FAILED)
    except (KeyboardInterrupt, click.Abort):
        click.echo("calm: interrupted. Run the command again; apply goes on from what it finds.", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return Exit.FAILED
    except Exception as error:
        if "CALM_DEBUG" in os.environ:
            raise
        # The error's own text might hold a secret.
        click.echo(
            f"calm: a mistake in calm itself ({place_of(error)}). Please report it; CALM_DEBUG=1 tells more.",
            err=True,
        )
        return Exit.FAILED
    return result if isinstance(result, int) else Exit.OK
