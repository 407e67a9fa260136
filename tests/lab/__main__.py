"""The lab by hand: `python -m tests.lab up`."""

from __future__ import annotations

import json
import sys
import time

import click

from tests.lab import debian, engine, hosts, images
from tests.lab.errors import LabError


@click.group()
def main() -> None:
    """A Docker Engine of the lab's own, its images, and hosts to converge over SSH.

    \b
    python -m tests.lab up
    export DOCKER_HOST=$(python -m tests.lab env)
    """


@main.command()
@click.option("--hosts", "with_hosts", is_flag=True, help="Build the image of lab hosts too.")
def up(with_hosts: bool) -> None:
    """Start the engine, build what images are missing, and print the socket; the engine keeps running."""
    began = time.monotonic()
    debian.allow_install()
    running, started = engine.up()
    built = images.ensure(running, *images.STACK, *([images.HOST] if with_hosts else []))
    took = time.monotonic() - began
    click.echo(
        f"engine {'started' if started else 'runs already'}, {len(built)} images built, {took:.1f} s",
        err=True,
    )
    click.echo(running.socket)


@main.command()
def down() -> None:
    """Stop the engine and everything on it; images and volumes stay on disk."""
    click.echo("engine stopped" if engine.down() else "no engine of the lab's was running", err=True)


@main.command()
def env() -> None:
    """Print the engine's address, as DOCKER_HOST takes it."""
    click.echo(engine.lab_engine().host)


@main.command()
def status() -> None:
    """Say what runs in the lab, as JSON; exit 1 if the engine does not answer."""
    lab = engine.lab_engine()
    if not lab.answers():
        raise click.ClickException(f"the lab's engine at {lab.socket} does not answer; start it with `up`")
    report = {
        "socket": lab.socket,
        "pid": engine.running_pid(),
        "version": lab.docker("version", "-f", "{{.Server.Version}}").stdout.strip(),
        "containers": lab.lines("ps", "-a", "--format", "{{.Names}}: {{.Status}}"),
        "volumes": lab.lines("volume", "ls", "-q"),
    }
    click.echo(json.dumps(report, indent=2))


@main.command("images")
@click.option("--hosts", "with_hosts", is_flag=True, help="Build the image of lab hosts too.")
def build_images(with_hosts: bool) -> None:
    """Build the images that are missing or out of date, and name them."""
    for name in images.ensure(engine.up()[0], *images.STACK, *([images.HOST] if with_hosts else [])):
        click.echo(name)


@main.command()
@click.argument("name")
@click.option("--remove", is_flag=True, help="Take the host away again.")
def host(name: str, remove: bool) -> None:
    """Start a host calm-lab-NAME with systemd, sshd and Docker, and print how to log in."""
    running, _ = engine.up()
    if remove:
        hosts.destroy(running, f"calm-lab-{name}")
        return
    keys = hosts.key_pair(engine.folder() / "keys")
    started = hosts.start(running, f"calm-lab-{name}", key=keys, preload=images.STACK)
    click.echo(" ".join(started.ssh_command()))


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"lab: {error}")
