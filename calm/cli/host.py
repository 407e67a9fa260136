"""The commands of one host: look, check, heal, watch, and what goes with them."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calm.cli.errors import CommandError
from calm.cli.exits import Exit, worst

if TYPE_CHECKING:
    from calm.heal.model import Finding, Remedy
    from calm.heal.prune import Piece
    from calm.settings import Settings

_GARBAGE = (700, 10, 10)
"""Python's own thresholds, for what goes on for months and should stay small."""

_CODES = {"failed": Exit.FAILED, "planned": Exit.PENDING, "quarantined": Exit.QUARANTINED}


class Host:
    """The root of this host and its settings."""

    def __init__(self, file: str | None) -> None:
        from calm.settings import Settings
        from calm.settings.load import SettingsError, read

        folder = Path(os.environ.get("CALM_ROOT") or "~/calm").expanduser()
        path = Path(file) if file else folder / "settings.json"
        if not file and not path.exists():
            self.settings: Settings = Settings(root=str(folder))
            self.root = folder
            return
        try:
            given = read(path)
        except SettingsError as error:
            hint = None if file else "calm apply writes this file anew, from the inventory that it came from."
            raise CommandError("\n".join(map(str, error.problems)), code=Exit.INVALID, hint=hint) from None
        self.root = Path(given.root).expanduser() if file else folder
        self.settings = given.model_copy(update={"root": str(self.root)})

    def refuse_while_applying(self) -> None:
        """What apply is just making is not to be restarted or cleaned away under it."""
        from calm.heal import switches

        hold = switches.applying(self.root)
        if hold is not None:
            raise CommandError(hold.reason, hint="Wait for it, or free its lock with calm unlock.")

    def noted(self, command: str, began: float, code: int) -> int:
        """Note in the journal that a command has run, so that one that is late can be told."""
        from calm.journal import Journal, JournalError

        if self.root.is_dir():
            with suppress(JournalError):
                journal = Journal(self.root / "journal.db", notice=_notice)
                try:
                    journal.ran(command, code, round(1000 * (time.monotonic() - began), 1))
                finally:
                    journal.close()
        return code


def _settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--settings",
        "file",
        type=click.Path(dir_okay=False),
        help="Settings to use instead of ROOT/settings.json; ROOT is $CALM_ROOT or ~/calm.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001
    from calm.settings.units import duration_seconds

    if value is None:
        return None
    try:
        return duration_seconds(float(value) if value.replace(".", "", 1).isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(epilog="Examples: calm snapshot · calm snapshot --json | jq .lmstudio")
@_settings_option
@_json_option
def snapshot(file: str | None, as_json: bool) -> int:
    """How this host feels right now: LM Studio, containers, end points, machine."""
    from calm.health.snapshot import take

    taken = take(Host(file).settings)
    if as_json:
        click.echo(json.dumps(taken.to_json()))
        return Exit.OK
    from calm.cli.shown import snapshot_lines

    for line in snapshot_lines(taken):
        click.echo(line)
    return Exit.OK


@click.command(epilog="Examples: calm check · calm check --json")
@_settings_option
@_json_option
def check(file: str | None, as_json: bool) -> int:
    """Ask postgres, redis, the agent API, LM Studio and the containers; 0 if all is well, else 1."""
    from calm.heal.check import check as ask

    host, began = Host(file), time.monotonic()
    checks = ask(host.settings, host.root)
    code = Exit.OK if all(each.ok for each in checks) else Exit.FAILED
    if as_json:
        document = {"schema": 1, "ok": code == 0, "checks": [each.to_json() for each in checks]}
        click.echo(json.dumps(document))
    else:
        for each in checks:
            latency = "" if each.latency_ms is None else f" ({each.latency_ms:.1f} ms)"
            click.echo(f"{'ok ' if each.ok else 'NOT'} {each.name}: {each.says}{latency}")
        if not checks:
            click.echo("nothing to check: neither Docker nor LM Studio is on this host")
    return host.noted("check", began, code)


@click.command(
    epilog="Examples: calm heal --dry-run · calm heal --only docker · calm heal --only container:NAME"
)
@_settings_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--only", metavar="lmstudio|docker|TARGET", help="Look at this alone.")
@click.option(
    "--burst",
    metavar="SECONDS",
    default="10",
    callback=_seconds,
    help="How long to look, so as to confirm; 10.",
)
@_json_option
def heal(file: str | None, dry_run: bool, only: str | None, burst: float, as_json: bool) -> int:
    """Look at this host for ten seconds and mend what is sick, within the budget.

    Exit codes: 0 done, or only things to report · 1 a remedy failed or a part could not be looked at
    · 2 remedies pending (dry run) · 7 a target is in quarantine.
    """
    from calm.heal import once

    host, began = Host(file), time.monotonic()
    pace = once.Pace(burst=burst)
    done = once.heal(host.settings, host.root, only=only, dry=dry_run, notice=_notice, pace=pace)
    codes = [_CODES.get(each.result, Exit.OK) for each in done.remedies]
    codes += [Exit.FAILED] * len(done.blind)
    code = worst(codes)
    for said in done.blind:
        _notice(said)
    if as_json:
        click.echo(json.dumps(_healed(done.findings, done.remedies)))
    else:
        _tell_findings(done.findings)
        for remedy in done.remedies:
            _tell(remedy)
    command = f"heal --only {only}" if only else "heal"
    return code if dry_run else host.noted(command, began, code)


@click.command(epilog="Examples: calm watch · calm watch --interval 5 --for 60 --only docker")
@_settings_option
@click.option("--interval", metavar="SECONDS", callback=_seconds, help="Seconds between two looks.")
@click.option("--for", "seconds", metavar="SECONDS", callback=_seconds, help="End after this time.")
@click.option("--only", metavar="lmstudio|docker|TARGET", help="Look at this alone.")
def watch(file: str | None, interval: float | None, seconds: float | None, only: str | None) -> int:
    """Heal continuously, until it is told to end. What apply installs runs this."""
    from calm.heal.watch import Watch

    host = Host(file)
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    watcher = Watch(host.settings, host.root, notice=_notice, tell=_tell, interval=interval, only=only)
    quarantined = watcher.run(seconds=seconds)
    return Exit.QUARANTINED if quarantined and seconds is not None else Exit.OK


@click.command(epilog="Examples: calm pause --for 2h · calm pause")
@_settings_option
@click.option(
    "--for", "seconds", metavar="TIME", callback=_seconds, help="How long: 30m, 2h; without: until resume."
)
def pause(file: str | None, seconds: float | None) -> None:
    """Stop heal and watch from acting on this host; they go on looking."""
    from calm.heal import switches

    host = Host(file)
    switches.pause(host.root, until=None if seconds is None else time.time() + seconds)
    end = "until calm resume" if seconds is None else f"for {seconds / 60:.0f} min"
    click.echo(f"paused {end}")


@click.command(epilog="Example: calm resume")
@_settings_option
def resume(file: str | None) -> None:
    """Let heal and watch act again."""
    from calm.heal import switches

    click.echo("healing acts again" if switches.resume(Host(file).root) else "it was not paused")


@click.command(epilog="Examples: calm restart · calm restart redis agent-api")
@_settings_option
@click.argument("services", nargs=-1)
def restart(file: str | None, services: tuple[str, ...]) -> int:
    """Restart services, dependencies first, each healthy before the next; without a name, all."""
    from calm.heal.actions_docker import Containers
    from calm.heal.arbiter import in_order, needs

    host = Host(file)
    host.refuse_while_applying()
    names = in_order(services or _services(host.settings), needs(host.settings))
    well = Containers(host.settings, host.root).restart_services(names, click.echo)
    return Exit.OK if well else Exit.UNHEALTHY


@click.command(epilog="Examples: calm prune --dry-run · calm prune --older-than 24h")
@_settings_option
@click.option("--dry-run", is_flag=True, help="List what would go, and remove nothing.")
@click.option(
    "--older-than", metavar="TIME", callback=_seconds, help="Least age; healing.prune.older_than else."
)
@_json_option
def prune(file: str | None, dry_run: bool, older_than: float | None, as_json: bool) -> int:
    """Remove stopped containers and dangling images of this stack that are old; never a volume."""
    import requests
    from docker.errors import DockerException

    from calm.heal import hostfiles
    from calm.heal import prune as pruning

    host, began = Host(file), time.monotonic()
    host.refuse_while_applying()
    wanted = tuple(hostfiles.record(host.root).wanted.values())
    try:
        pieces = pruning.survey(host.settings, now=time.time(), older_than=older_than, wanted=wanted)
        if not dry_run:
            pieces = pruning.remove(pieces)
    except (DockerException, requests.RequestException) as error:
        raise CommandError(
            f"the Docker engine does not answer: {error}"[:300], hint="Is it running?"
        ) from None
    _tell_pruned(pieces, dry_run, as_json)
    code = Exit.FAILED if any(piece.failed for piece in pieces) else Exit.OK
    return code if dry_run else host.noted("prune", began, code)


@click.group(epilog="Examples: calm lmstudio status · calm lmstudio stop")
def lmstudio() -> None:
    """LM Studio alone: start, stop, status."""


@lmstudio.command(name="start")
@_settings_option
def lmstudio_start(file: str | None) -> int:
    """Start LM Studio as it says itself that it is to be started; no model is loaded."""
    from calm.heal.actions_lmstudio import LMStudio

    return _outcome(LMStudio(Host(file).settings).start())


@lmstudio.command(name="stop")
@_settings_option
def lmstudio_stop(file: str | None) -> int:
    """Unload its models and end it: it is asked to quit first, and killed last."""
    from calm.heal.actions_lmstudio import LMStudio

    return _outcome(LMStudio(Host(file).settings).stop())


@lmstudio.command(name="status")
@_settings_option
@_json_option
def lmstudio_status(file: str | None, as_json: bool) -> int:
    """Which instances run, what they use, which models are loaded."""
    from calm.cli.shown import lmstudio_lines
    from calm.health.snapshot import take

    taken = take(Host(file).settings)
    if as_json:
        click.echo(json.dumps(taken.to_json()["lmstudio"]))
    else:
        for line in lmstudio_lines(taken.lmstudio):
            click.echo(line)
    return Exit.OK


@click.command(epilog="Examples: calm journal --since 24h · calm journal --json")
@_settings_option
@click.option("--since", metavar="TIME", default="24h", callback=_seconds, help="How far back; 24h.")
@_json_option
def journal(file: str | None, since: float, as_json: bool) -> int:
    """What happened on this host: findings, remedies, applies, benchmarks."""
    from calm.cli.shown import journal_document, journal_lines
    from calm.journal import Journal, JournalError

    path = Host(file).root / "journal.db"
    if not path.exists():
        raise CommandError(f"there is no journal {path} yet", hint="calm heal or calm watch begins one.")
    try:
        opened = Journal(path, notice=_notice)
        try:
            document = journal_document(opened, time.time() - since)
        finally:
            opened.close()
    except JournalError as error:
        raise CommandError(str(error)) from None
    for line in [json.dumps(document)] if as_json else journal_lines(document):
        click.echo(line)
    return Exit.OK


COMMANDS: tuple[click.Command, ...] = (
    snapshot,
    check,
    heal,
    watch,
    pause,
    resume,
    restart,
    prune,
    lmstudio,
    journal,
)


def _notice(said: str) -> None:
    click.echo(f"calm: {said}", err=True)


def _outcome(outcome: Any) -> int:
    click.echo(outcome.says)
    return Exit.FAILED if outcome.result == "failed" else Exit.OK


def _healed(findings: Sequence[Finding], remedies: Sequence[Remedy]) -> dict[str, Any]:
    return {
        "schema": 1,
        "findings": [each.to_json() for each in findings],
        "remedies": [each.to_json() for each in remedies],
    }


def _tell_findings(findings: Sequence[Finding]) -> None:
    for each in findings:
        click.echo(f"{each.rule} {each.target}: {each.evidence['says']}")
    if not findings:
        click.echo("nothing is the matter")


def _tell(remedy: Remedy) -> None:
    took = "" if remedy.took_ms is None else f" ({remedy.took_ms / 1000:.1f} s)"
    click.echo(f"{remedy.result}: {remedy.action} {remedy.target}: {remedy.reason}{took}")
    sys.stdout.flush()


def _services(settings: Settings) -> tuple[str, ...]:
    ours = ("postgres", "redis", *(("agent-api",) if settings.docker.agent_api.enabled else ()))
    return (*ours, *(name for name in settings.docker.services if name not in ours))


def _tell_pruned(pieces: Sequence[Piece], dry_run: bool, as_json: bool) -> None:
    going = [piece for piece in pieces if piece.stays is None]
    staying = [piece for piece in pieces if piece.stays is not None]
    total = sum(piece.bytes or 0 for piece in going if not piece.failed)
    if as_json:
        goes, stays = ([piece.to_json() for piece in part] for part in (going, staying))
        document = {"schema": 1, "dry_run": dry_run, "removed": goes, "stays": stays, "bytes": total}
        click.echo(json.dumps(document))
        return
    for piece in going:
        verb = "would remove" if dry_run else "not removed" if piece.failed else "removed"
        click.echo(f"{verb} {piece.kind} {piece.name}: {_size(piece.bytes)}{_because(piece.failed)}")
    for piece in staying:
        click.echo(f"stays: {piece.kind} {piece.name}: {_size(piece.bytes)}{_because(piece.stays)}")
    click.echo(f"{'would free' if dry_run else 'freed'} {_size(total)}; volumes are never touched")


def _because(said: str | None) -> str:
    return f" ({said})" if said else ""


def _size(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 1e6:.1f} MB"
