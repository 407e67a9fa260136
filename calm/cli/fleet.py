"""The commands that are about the machines of an inventory."""

from __future__ import annotations

import json
import select
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from calm.cli.errors import CommandError
from calm.cli.exits import Exit, worst

if TYPE_CHECKING:
    from calm.fleet.targets import Target
    from calm.fleet.work import Job, Outcome
    from calm.settings import Settings
    from calm.settings.load import SettingsError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_inventory = click.argument("inventory", required=False)
_limit = click.option(
    "--limit", multiple=True, metavar="HOST_OR_GROUP", help="Only these hosts; may be repeated."
)
_only = click.option(
    "--only", multiple=True, metavar="KIND_OR_ID", help="Only these resources, and what they need."
)
_data = click.option("--data", multiple=True, metavar="K=V", help="A setting over all others.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
_every = click.option("--all", "every", is_flag=True, help="List what is as it should be, too.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_canary = click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Take the first N hosts first, and the others only if those are well then.",
)
_retry = click.option(
    "--retry-failed", is_flag=True, help="Only the hosts that the last apply left unfinished."
)
_force = click.option("--force", is_flag=True, help="Take over a lock that somebody else holds.")


@click.command(epilog="Examples: calm validate · calm validate inventories/fleet.py")
@_inventory
@_limit
@_data
def validate(inventory: str | None, limit: tuple[str, ...], data: tuple[str, ...]) -> int:
    """Check the settings of every host; touch none."""
    from calm.settings.checks import warnings

    found = _validated(_target(inventory, limit, data))
    for host, settings in found.items():
        for warning in warnings(settings):
            click.echo(f"{host}: {warning}", err=True)
    click.echo(f"The settings of {len(found)} host{'' if len(found) == 1 else 's'} are valid.")
    return Exit.OK


@click.command(
    epilog="Examples: calm plan · calm plan --only service:redis · calm plan inventories/fleet.py --json"
)
@_inventory
@_limit
@_only
@_data
@_every
@click.option(
    "--out", type=click.Path(dir_okay=False), metavar="FILE", help="Keep it for `apply --plan FILE`."
)
@_json
def plan(
    inventory: str | None,
    limit: tuple[str, ...],
    only: tuple[str, ...],
    data: tuple[str, ...],
    every: bool,
    out: str | None,
    as_json: bool,
) -> int:
    """Show what differs from the settings. Writes nothing on any host."""
    from calm.fleet import work

    job = work.Job(target=_target(inventory, limit, data), only=only, strict=True)
    outcome = _working(lambda: work.plan(job, every=every))
    _print(outcome, as_json)
    if out is not None:
        from calm.fleet import planfile

        planfile.write(Path(out), job, outcome)
        click.echo(f"The plan is in {out}. Apply exactly that: calm apply --plan {out}", err=True)
    return _code(outcome)


@click.command(
    epilog="Examples: calm apply · calm apply --only document:app.yaml · "
    "calm apply inventories/fleet.py --canary 1 · calm apply --plan FILE"
)
@_inventory
@_limit
@_only
@_data
@click.option("--plan", "file", type=click.Path(dir_okay=False), metavar="FILE", help="Exactly this plan.")
@_canary
@_retry
@_yes
@_force
@_every
@_json
def apply(
    inventory: str | None,
    limit: tuple[str, ...],
    only: tuple[str, ...],
    data: tuple[str, ...],
    file: str | None,
    canary: int,
    retry_failed: bool,
    yes: bool,
    force: bool,
    every: bool,
    as_json: bool,
) -> int:
    """Converge every host: show the plan, ask, change, look again."""
    from calm.fleet import work

    job = work.Job(target=_target(inventory, limit, data), only=only, force=force, strict=True)
    if file is not None:
        job = _planned(job, Path(file))
    if retry_failed:
        unfinished = _unfinished(job.target)
        if not unfinished:
            click.echo("The last apply left no host of this inventory unfinished.", err=True)
            return Exit.OK
        job = job.on(unfinished)
    return _converge(job, yes=yes, every=every, as_json=as_json, canary=canary)


@click.command(epilog="Example: calm rollback --limit gpu-1")
@_inventory
@_limit
@_yes
@_json
def rollback(inventory: str | None, limit: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Apply the settings of the generation before. Secrets and volumes stay as they are."""
    from calm.fleet import generations, work

    job = work.Job(target=_target(inventory, limit, ()), settings_for=generations.before)
    try:
        return _converge(job, yes=yes, every=False, as_json=as_json)
    except generations.NoGenerationError as error:
        raise CommandError(str(error), code=Exit.FAILED) from error


@click.command(epilog="Example: calm remove --yes")
@_inventory
@_limit
@_yes
@_json
def remove(inventory: str | None, limit: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Take calm away: services, schedules, agent and documents. Volumes, secrets and backups stay."""
    from calm.fleet import work

    job = work.Job(target=_target(inventory, limit, ()), desired="absent")
    return _converge(job, yes=yes, every=False, as_json=as_json)


@click.command(epilog="Example: calm status inventories/fleet.py")
@_inventory
@_limit
@_json
def status(inventory: str | None, limit: tuple[str, ...], as_json: bool) -> int:
    """Show a row per host: converged or drifted, services, LM Studio, schedules."""
    from calm.fleet import statuses

    rows = _working(lambda: statuses.rows(_target(inventory, limit, ())))
    click.echo(json.dumps(statuses.document(rows), indent=2) if as_json else statuses.table(rows))
    return worst(_STATUS_CODES[row["status"]] for row in rows)


@click.command(epilog="Example: calm unlock")
@_inventory
@_limit
@_yes
def unlock(inventory: str | None, limit: tuple[str, ...], yes: bool) -> int:
    """Show who holds the lock of each host, and free it."""
    from calm.fleet import locks

    target = _target(inventory, limit, ())
    held = _working(lambda: locks.held(target))
    for host, lock in held.items():
        click.echo(f"{host}: {locks.told(lock)}")
    if not any(held.values()):
        return Exit.OK
    if not _agreed("Free it?", yes=yes):
        return Exit.PENDING
    failed = _working(lambda: locks.free(target, held))
    for host, why in failed.items():
        click.echo(f"{host}: {why}", err=True)
    return Exit.FAILED if failed else Exit.OK


@click.command(epilog="Examples: calm settings · calm settings --json-schema")
@_inventory
@_limit
@_data
@click.option("--json-schema", is_flag=True, help="Print the schema of the settings instead.")
def settings(inventory: str | None, limit: tuple[str, ...], data: tuple[str, ...], json_schema: bool) -> int:
    """Print the effective settings of every host, secrets masked."""
    if json_schema:
        from calm.settings.reference import json_schema as schema

        click.echo(json.dumps(schema(), indent=2))
        return Exit.OK
    from calm.settings.dump import to_json

    found = _validated(_target(inventory, limit, data))
    click.echo(
        json.dumps({host: to_json(value) for host, value in found.items()}, indent=2, ensure_ascii=False)
    )
    return Exit.OK


COMMANDS: Sequence[click.Command] = (validate, plan, apply, status, rollback, remove, unlock, settings)

_STATUS_CODES = {
    "converged": Exit.OK,
    "drifted": Exit.PENDING,
    "failed": Exit.FAILED,
    "unreachable": Exit.UNREACHABLE,
}


def _planned(job: Job, file: Path) -> Job:
    from calm.fleet import planfile

    try:
        return planfile.read(file).job(job)
    except planfile.PlanFileError as error:
        raise CommandError(str(error), code=Exit.USAGE) from error


def _unfinished(target: Target) -> frozenset[str]:
    from calm.fleet import memory

    left = memory.failed(target)
    return left if target.names is None else left & target.names


def _converge(job: Job, *, yes: bool, every: bool, as_json: bool, canary: int = 0) -> int:
    """Plan, show, ask, apply: what apply, rollback and remove have in common."""
    from calm.fleet import work

    shown = _working(lambda: work.plan(job, every=every))
    if not shown.changes:
        done = work.unchanged(job, shown, every=every)
        _print(done, as_json)
        return _code(done)
    if not as_json:
        _print(shown, as_json=False)
    if not _agreed("Apply this?", yes=yes):
        click.echo("Nothing was changed.", err=True)
        return Exit.PENDING
    progress = None if as_json else _progress(shown)
    told = replace(job, nobody_asked=yes)
    outcome = _working(lambda: work.apply(told, shown, every=every, progress=progress, canary=canary))
    _print(outcome, as_json)
    return _code(outcome)


def _target(inventory: str | None, limit: tuple[str, ...], data: tuple[str, ...]) -> Target:
    from calm.fleet.targets import InventoryError, target

    try:
        return target(inventory, limit=limit, data=data)
    except InventoryError as error:
        raise CommandError(str(error), code=Exit.INVALID) from error


def _validated(target: Target) -> dict[str, Settings]:
    """The settings of every host; all that is wrong with any of them at once."""
    from calm.settings.load import SettingsError

    def read() -> dict[str, Settings | SettingsError]:
        from calm.fleet import runner

        return runner.validate(target)

    found = _working(read)
    wrong = [str(value) for value in found.values() if isinstance(value, SettingsError)]
    if wrong:
        raise CommandError("\n".join(dict.fromkeys(wrong)), code=Exit.INVALID)
    return {host: value for host, value in found.items() if not isinstance(value, SettingsError)}


Result = TypeVar("Result")


def _working(work: Callable[[], Result]) -> Result:
    """Do ``work``, and end the command plainly if the inventory or the choice is wrong."""
    from calm.fleet.choice import UnknownResourceError
    from calm.fleet.targets import InventoryError, NoHostError, WrongSettingsError

    try:
        # An inventory is a program, too; what it prints is no part of the document.
        with redirect_stdout(sys.stderr):
            return work()
    except (InventoryError, WrongSettingsError) as error:
        raise CommandError(str(error), code=Exit.INVALID) from error
    except NoHostError as error:
        raise CommandError(str(error), code=Exit.UNREACHABLE) from error
    except UnknownResourceError as error:
        raise CommandError(str(error), code=Exit.USAGE) from error
    except ModuleNotFoundError as error:
        if error.name not in ("pyinfra", "pyinfra_cli", "jinja2", "ruamel"):
            raise
        raise CommandError(
            "This calm is a host's agent, which plans and applies nothing.",
            code=Exit.INVALID,
            hint="Run it from a checkout: `make venv` there, then .venv/bin/calm.",
        ) from error


def _agreed(question: str, *, yes: bool) -> bool:
    """Ask on a terminal. Where there is none, only ``--yes`` says yes."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError(
            "There is no terminal to ask on.", code=Exit.USAGE, hint="Say --yes to go on without being asked."
        )
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    # In short waits, so that a Ctrl-C right before the read is heard, and not only with the next key.
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _progress(shown: Outcome) -> Callable[[str, str, str], None]:
    """A line per resource that is through, with how far its host is."""
    total = {row["name"]: len(row["resources"]) for row in shown.document["hosts"]}
    through: Counter[str] = Counter()

    def tell(host: str, resource: str, event: str) -> None:
        if resource == "lock":
            click.echo(f"{host}  lock  {event}", err=True)
        elif event != "start":
            through[host] += 1
            click.echo(f"{host}  {through[host]}/{total[host]}  {resource}  {event}", err=True)

    return tell


def _print(outcome: Outcome, as_json: bool) -> None:
    from calm.fleet import report

    if as_json:
        click.echo(json.dumps(outcome.document, indent=2, ensure_ascii=False))
    else:
        click.echo(report.text(outcome.document, notes=outcome.notes))


def _code(outcome: Outcome) -> int:
    rows = outcome.document["hosts"]
    return worst(_row_code(row) for row in rows)


def _row_code(row: Mapping[str, Any]) -> Exit:
    """What one host says: a service that does not come up well is no failure to change it."""
    if row["error"] and row["error"]["code"] in ("settings", "template"):
        return Exit.INVALID
    failed = [resource["reason"] or "" for resource in row["resources"] if resource["result"] == "failed"]
    if row["status"] == "failed" and not row["error"] and failed and all("healthy" in why for why in failed):
        return Exit.UNHEALTHY
    return _STATUS_CODES[row["status"]]
