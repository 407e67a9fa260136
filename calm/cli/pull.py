"""``calm pull``: the one command of a host that converges."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

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
def pull(url: str, ref: str, inventory: str, jitter: float) -> int:
    """Fetch a checkout of calm and converge this host by it; `calm status` shows what came of it.

    The folder is ROOT/pull; ROOT is $CALM_ROOT or ~/calm.
    """
    from calm.fleet import pull as pulling

    try:
        source = pulling.Source(url=url, reference=ref, inventory=inventory)
        time.sleep(random.uniform(0, jitter))
        code = pulling.pull(source, Path(os.environ.get("CALM_ROOT") or "~/calm").expanduser())
    except pulling.PullError as error:
        raise CommandError(str(error), code=Exit.FAILED) from error
    click.echo("This host is as the repository says." if code == 0 else f"apply ended with {code}.", err=True)
    return code


COMMANDS: Sequence[click.Command] = (pull,)
