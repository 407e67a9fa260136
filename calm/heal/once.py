"""``calm heal``: a burst of snapshots, one judgement, and a wait until it shows what has helped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calm.heal import hostfiles, prune, switches
from calm.heal.actions import HostActs
from calm.heal.actions_lmstudio import Patience
from calm.heal.clock import Clock
from calm.heal.healer import Healer, Report, run_of_this_apply
from calm.heal.model import Finding, Remedy
from calm.heal.view import YOUNG, Junk
from calm.health.model import Snapshot
from calm.health.snapshot import take
from calm.journal import HOUR, Journal, JournalError

if TYPE_CHECKING:
    from calm.settings import Settings

BURST = 10.0
"""Seconds that the burst of samples spans, so that one run can confirm."""

LOCK_WAIT = 130.0
"""Seconds to wait for an apply: its lease lasts 120 and is renewed while it works."""

SETTLE = 120.0
"""Seconds to wait for what was done to show its effect."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long one run takes for its parts, in seconds; tests are in a hurry."""

    burst: float = BURST
    lock: float = LOCK_WAIT
    settle: float = SETTLE
    young: float = YOUNG
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True)
class Done:
    """One run. ``blind`` says why a part of the host could not be looked at."""

    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]
    blind: tuple[str, ...] = ()


def heal(
    settings: Settings,
    root: Path,
    *,
    only: str | None = None,
    dry: bool = False,
    notice: Callable[[str], None],
    pace: Pace | None = None,
) -> Done:
    """Look at this host and act within the budget; ``dry`` looks alone."""
    pace, clock, run = pace or Pace(), Clock(), run_of_this_apply()
    # A look alone writes nothing, so it makes no journal either.
    journal = open_journal(root, notice) if not dry or (root / "journal.db").exists() else None
    try:
        if not dry:
            _wait_for_apply(root, clock, run, pace.lock)
        acts = HostActs(settings, root, pace.patience)
        healer = Healer(settings, root, acts, journal=journal, clock=clock, notice=notice, young=pace.young)
        with suppress(JournalError):
            healer.recall(seconds=HOUR)
        last = _burst(healer, settings, None if dry else journal, pace.burst)
        if only != "lmstudio":
            healer.junk = survey_junk(settings, root)
        report = healer.heal(only=only, dry=dry, run=run)
        settled = _settled(healer, pace.settle)
        return Done(
            findings=report.findings,
            remedies=_merged(report, settled),
            blind=_blind(last, settings, root, only),
        )
    finally:
        if journal is not None:
            if not dry:
                with suppress(JournalError):
                    journal.prune()
            journal.close()


def open_journal(root: Path, notice: Callable[[str], None]) -> Journal | None:
    """The host's journal, or ``None`` with a word about it."""
    try:
        return Journal(root / "journal.db", notice=notice)
    except JournalError as error:
        notice(str(error))
        return None


def survey_junk(settings: Settings, root: Path) -> Junk | None:
    """How much junk there is; ``None`` where the engine does not tell."""
    import requests
    from docker.errors import DockerException

    if settings.docker.enabled is False or settings.healing.rules.junk.do == "off":
        return None
    wanted = tuple(hostfiles.record(root).wanted.values())
    try:
        pieces = prune.survey(settings, now=time.time(), wanted=wanted)
    except (DockerException, requests.RequestException, OSError):
        return None
    ours = sum(piece.bytes or 0 for piece in pieces if piece.stays is None)
    return Junk(ours=ours, others=sum(piece.bytes or 0 for piece in pieces) - ours)


def _burst(healer: Healer, settings: Settings, journal: Journal | None, seconds: float) -> Snapshot:
    """As many samples as confirming takes; fewer if the first ones show nothing to confirm."""
    needed, of = settings.healing.confirm
    pause = seconds / max(of - 1, 1)
    last = take(settings)
    healer.add(last)
    if journal is not None:
        with suppress(JournalError):
            journal.add_sample(last.taken_at, last.to_text())
    for taken in range(1, of):
        if taken > of - needed and healer.quiet:
            break
        time.sleep(pause)
        last = take(settings, previous=last)
        healer.add(last)
    return last


def _wait_for_apply(root: Path, clock: Clock, run: str | None, seconds: float) -> None:
    deadline = clock.now() + seconds
    while switches.applying(root, run=run) and clock.now() < deadline:
        time.sleep(0.5)


def _settled(healer: Healer, seconds: float) -> list[Remedy]:
    settled, deadline = healer.settle(), time.monotonic() + seconds
    while healer.waiting and time.monotonic() < deadline:
        time.sleep(0.2)
        settled += healer.settle()
    return settled


def _merged(report: Report, settled: list[Remedy]) -> tuple[Remedy, ...]:
    """The remedies, with what came of those that were done."""
    came_of = {(each.action, each.target): each for each in settled}
    return tuple(
        replace(each, result=came.result, reason=f"{each.reason}: {came.reason}")
        if (came := came_of.get((each.action, each.target))) and each.result == "done"
        else each
        for each in report.remedies
    )


def _blind(last: Snapshot, settings: Settings, root: Path, only: str | None) -> tuple[str, ...]:
    """What could not be looked at although it should be there."""
    blind = []
    if only != "docker" and last.lmstudio.installed is None and settings.lmstudio.enabled is not False:
        blind.append("the process table could not be read")
    expected = settings.docker.enabled is True or hostfiles.record(root).wanted
    if only != "lmstudio" and expected and settings.docker.enabled is not False and not last.docker.reachable:
        blind.append(last.docker.error or "the Docker engine does not answer")
    return tuple(blind)
