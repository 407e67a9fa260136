"""``calm up``, ``calm down`` and ``calm doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from calm.cli.exits import Exit
from calm.cli.host import Host

if TYPE_CHECKING:
    from calm.health.model import Endpoint
    from calm.settings import Settings
    from calm.startup.model import Outcome, Status
    from calm.startup.plan import LMStudio

_MARKS = {
    "running": ("ok  ", "runs"),
    "started": ("ok  ", "started"),
    "begun": ("ok  ", "started, not waited for"),
    "stopped": ("ok  ", "stopped"),
    "failed": ("FAIL", "failed"),
    "skipped": ("skip", "skipped"),
}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option(
            "--settings",
            "file",
            type=click.Path(dir_okay=False),
            help="Settings to use instead of ROOT/settings.json; ROOT is $CALM_ROOT or ~/calm.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog="Examples: calm up · calm up --skip-lmstudio --timeout 300 · calm up --json")
@_options
@click.option("--skip-lmstudio", is_flag=True, help="Leave LM Studio as it is.")
@click.option("--skip-docker", is_flag=True, help="Leave the Docker services as they are.")
@click.option("--wait-lmstudio", is_flag=True, help="Wait until LM Studio's server answers.")
@click.option("--timeout", type=click.FloatRange(min=1), default=120, show_default=True, metavar="SECONDS")
def up(file: str | None, as_json: bool, timeout: float, **skips: bool) -> int:
    """Start the stack in the order that it needs, and wait until it works.

    Exit codes: 0 everything works · 5 a step failed; it is named, with the reason and its last log lines.
    """
    from calm.heal import switches
    from calm.startup import plan

    host = Host(file)
    switches.want_running(host.root)
    wish = _wish(timeout, **skips)
    outcomes = plan.up(host.settings, host.root, wish, _lmstudio(host.settings), _report(as_json))
    points = plan.end_points(host.settings, wish)
    if as_json:
        click.echo(json.dumps(plan.summary(outcomes, points)))
    else:
        _show_points(points)
    if not outcomes:
        click.echo("calm: there is nothing to start: neither Docker nor LM Studio is here", err=True)
    return Exit.OK if all(outcome.good for outcome in outcomes) else Exit.UNHEALTHY


@click.command(epilog="Examples: calm down · calm down --skip-lmstudio")
@_options
@click.option("--skip-lmstudio", is_flag=True, help="Leave LM Studio as it is.")
@click.option("--skip-docker", is_flag=True, help="Leave the Docker services as they are.")
@click.option("--timeout", type=click.FloatRange(min=1), default=120, show_default=True, metavar="SECONDS")
def down(file: str | None, as_json: bool, timeout: float, **skips: bool) -> int:
    """Stop the stack, what needs others before them. Data stays, and heal leaves it stopped until calm up."""
    from calm.heal import switches
    from calm.startup import plan

    host = Host(file)
    wish = _wish(timeout, **skips)
    parts = (*(("docker",) if wish.docker else ()), *(("lmstudio",) if wish.lmstudio else ()))
    # First, so that heal does not start again what is being stopped.
    switches.want_stopped(host.root, parts)
    outcomes = plan.down(host.settings, host.root, wish, _lmstudio(host.settings), _report(as_json))
    if as_json:
        click.echo(json.dumps(plan.summary(outcomes, ())))
    return Exit.OK if all(outcome.good for outcome in outcomes) else Exit.FAILED


@click.command(epilog="Examples: calm doctor · calm doctor --json | jq .ok")
@_options
def doctor(file: str | None, as_json: bool) -> int:
    """What this host has and lacks, with the command that mends it; 0 without failures, else 1."""
    from calm.startup import doctor as looking

    host = Host(file)
    found = looking.examine(host.settings, host.root)
    if as_json:
        click.echo(json.dumps(looking.to_json(found)))
    else:
        for each in found:
            mark = {"ok": "ok  ", "warning": "WARN", "failure": "FAIL"}[each.level]
            click.echo(f"{mark} {each.name}: {each.says}" + (f"\n       {each.mend}" if each.mend else ""))
    return Exit.OK if looking.healthy(found) else Exit.FAILED


COMMANDS: tuple[click.Command, ...] = (up, down, doctor)


def _wish(timeout: float, *, skip_lmstudio: bool, skip_docker: bool, wait_lmstudio: bool = False) -> Any:
    from calm.startup.plan import Wish

    return Wish(
        docker=not skip_docker, lmstudio=not skip_lmstudio, wait_lmstudio=wait_lmstudio, seconds=timeout
    )


def _lmstudio(settings: Settings) -> LMStudio:
    """LM Studio's start and stop, as steps of a start: healing knows how."""
    from calm.startup.model import Status
    from calm.startup.plan import LMStudio

    def actions() -> Any:
        from calm.heal import actions_lmstudio  # only where there is one: it takes long to import

        return actions_lmstudio.LMStudio(settings)

    return LMStudio(
        start=lambda: _step(actions().start(), {"deferred": Status.RUNNING, "done": Status.STARTED}),
        stop=lambda: _step(actions().stop(), {"deferred": Status.STOPPED, "done": Status.STOPPED}),
    )


def _step(outcome: Any, means: dict[str, Status]) -> Status:
    from calm.startup.model import StepError

    if outcome.result not in means:
        raise StepError(outcome.says)
    return means[outcome.result]


def _report(as_json: bool) -> Callable[[Outcome], None]:
    """Each step as it ends; with ``--json`` on stderr, so that stdout is one document."""

    def report(outcome: Outcome) -> None:
        mark, word = _MARKS[str(outcome.status)]
        reason = f": {outcome.reason}" if outcome.reason else ""
        click.echo(f"{mark} {outcome.name} {word} ({outcome.took_ms / 1000:.2f} s){reason}", err=as_json)
        for line in outcome.log:
            click.echo(f"       | {line}", err=as_json)

    return report


def _show_points(points: tuple[Endpoint, ...]) -> None:
    for point in points:
        error = "" if point.ok else f" does not answer ({point.error})"
        click.echo(f"{point.name}: {point.url}{error}")
