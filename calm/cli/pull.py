"""``calm pull``: the one command of a host that converges."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import click

from calm.cli.errors import CommandError
from calm.cli.exits import Exit


@click.command(
    epilog="Examples: calm pull --from https://git.example.org/calm.git · calm pull --from URL --jitter 600"
)
@click.option("--from", "url", required=True, metavar="GIT_URL", help="The repository with the checkout.")
@click.option("--ref", default="HEAD", metavar="NAME", help="A branch or tag of it.")
@click.option(
    "--inventory",
    default="inventories/local.py",
    metavar="FILE",
    help="The inventory there that is about this host.",
)
@click.option(
    "--jitter",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait up to so long first, so that many hosts do not come at once.",
)
@click.option(
    "--settings",
    "file",
    type=click.Path(dir_okay=False),
    help="Settings that name ROOT; else it is $CALM_ROOT or ~/calm.",
)
def pull(url: str, ref: str, inventory: str, jitter: float, file: str | None) -> int:
    """Fetch a checkout of calm and converge this host by it; `calm status` shows what came of it.

    The folder is ROOT/pull. Of the inventory the host @local counts, which is this one.
    """
    from calm.cli.host import Host
    from calm.fleet import pull as pulling

    try:
        source = pulling.Source(url=url, reference=ref, inventory=inventory)
        time.sleep(random.uniform(0, jitter))
        code = pulling.pull(source, Host(file).root)
    except pulling.PullError as error:
        raise CommandError(str(error), code=Exit.FAILED) from error
    click.echo("This host is as the repository says." if code == 0 else f"apply ended with {code}.", err=True)
    return code


COMMANDS: Sequence[click.Command] = (pull,)
