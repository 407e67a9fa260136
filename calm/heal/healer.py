"""The one way from snapshots to remedies: rules, arbiter, acts, journal. Timer, daemon and push take it."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from calm.heal import arbiter, hostfiles, rules, switches
from calm.heal.arbiter import Bench, Judged
from calm.heal.clock import Clock
from calm.heal.ledger import Ledger, Written
from calm.heal.model import Finding, Outcome, Remedy
from calm.heal.switches import Hold
from calm.heal.view import YOUNG, JobRun, Junk, Trace, View, trace
from calm.health.model import Snapshot
from calm.journal import DAY, HOUR, Journal, JournalError

if TYPE_CHECKING:
    from calm.settings import Settings

ALERT_AGAIN = HOUR
_TRAIL = 20_000
"""Traces kept at most, however often something changes."""

_TRACES = 200
"""Traces in the leak detector's window, where nothing else changes: eight for each of its blocks."""


class Acts(Protocol):
    """What can be done about a finding, and whether it has helped."""

    def act(self, finding: Finding, attempt: int) -> Outcome:
        """Do it; never raises for what went wrong."""

    def helped(self, finding: Finding, *, began: float, now: float) -> bool | None:
        """Whether the trouble is gone; ``None`` while that cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An act that has yet to show whether it helped."""

    written: Written
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found and what was done."""

    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]


class Healer:
    """Looks at snapshots and acts within the budget. Used by one thread."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        acts: Acts,
        *,
        journal: Journal | None,
        clock: Clock,
        notice: Callable[[str], None],
        resident: bool = False,
        young: float = YOUNG,
    ) -> None:
        """``notice`` is told alerts and troubles; ``resident`` is an agent that stays and remembers."""
        self._settings, self._root, self._acts = settings, root, acts
        self._journal, self._clock, self._notice = journal, clock, notice
        self._resident, self._young = resident, young
        self._ledger = Ledger(journal, clock, notice)
        self._ledger.refresh()
        self._samples: deque[tuple[float, Snapshot]] = deque(maxlen=settings.healing.confirm[1])
        self._trail: deque[Trace] = deque(maxlen=_TRAIL)
        self._pending: dict[str, Pending] = {}
        self._alerted: dict[str, float] = {}
        self.ooms: dict[str, float] = {}
        self.junk: Junk | None = None

    def recall(self, *, seconds: float) -> None:
        """Take up the trail of earlier snapshots from the journal."""
        if self._journal is None:
            return
        for document in self._journal.samples(since=self._clock.wall() - seconds):
            earlier = trace(Snapshot.from_json(document), self._last_trace)
            self._remember(replace(earlier, at=self._clock.from_wall(earlier.at)))

    def use(self, journal: Journal) -> None:
        """Write to this journal from now on."""
        self._journal = journal
        self._ledger.use(journal)

    @property
    def quarantined(self) -> frozenset[str]:
        """What is left as it is because its budget is spent."""
        return self._ledger.quarantined

    def add(self, snapshot: Snapshot) -> None:
        """Take in a new snapshot; what no rule's window reaches any more is let go."""
        now, windows = self._clock.now(), self._settings.healing.rules
        oldest = now - max(windows.lmstudio_leaking.window, windows.container_crash_looping.window) - HOUR
        while self._trail and self._trail[0].at < oldest:
            self._trail.popleft()
        self.ooms = {name: at for name, at in self.ooms.items() if self._clock.wall() - at < DAY}
        self._samples.append((now, snapshot))
        self._remember(replace(trace(snapshot, self._last_trace), at=now))

    def _remember(self, new: Trace) -> None:
        """Add to the trail what is new in it: rules go through all of it, at every look."""
        last, window = self._last_trace, self._settings.healing.rules.lmstudio_leaking.window
        if last is None or new.at - last.at >= window / _TRACES or new.differs(last):
            self._trail.append(new)

    @property
    def _last_trace(self) -> Trace | None:
        return self._trail[-1] if self._trail else None

    @property
    def quiet(self) -> bool:
        """Whether more snapshots could change nothing: neither confirm a suspicion nor end a quarantine."""
        return not self._ledger.quarantined and rules.quiet(self._view())

    @property
    def waiting(self) -> bool:
        """Whether acts have yet to show whether they helped."""
        return bool(self._pending)

    def heal(
        self,
        *,
        only: str | None = None,
        without: Collection[str] = (),
        dry: bool = False,
        run: str | None = None,
    ) -> Report:
        """Judge what the snapshots show and act on it.

        ``only`` and ``without`` are as :func:`calm.heal.rules.look` has them, ``run`` is the apply that this
        is a part of.
        """
        self._ledger.refresh()
        view = self._view()
        found = rules.look(view, only, without=without)
        if not dry:
            found = self._note(found, ends=rules.looked_at(only, without=without))
            self._release(view, only)
        return self._report(found, run, dry=dry)

    def heal_now(self, finding: Finding) -> Report:
        """Act on one finding that an event has told, without waiting for a snapshot."""
        self._ledger.refresh()
        return self._report(self._note((finding,), ends=()), None, dry=False)

    def settle(self) -> list[Remedy]:
        """Ask of every act that is pending whether it has helped; those that are told now."""
        settled = []
        for target, pending in list(self._pending.items()):
            helped = self._acts.helped(pending.finding, began=pending.written.began, now=self._clock.now())
            if helped is not None:
                del self._pending[target]
                settled.append(self._settled(pending, helped))
        return settled

    # -- inside --------------------------------------------------------------------------------------------

    def _view(self) -> View:
        record = hostfiles.record(self._root)
        return View(
            settings=self._settings,
            samples=[snapshot for _, snapshot in self._samples],
            times=[at for at, _ in self._samples],
            now=self._clock.now(),
            trail=self._trail,
            wanted=record.wanted,
            acted=self._ledger.last_end(),
            ooms=self.ooms,
            junk=self.junk,
            runs=self._runs(),
            applied_at=record.applied_at,
            young=self._young,
        )

    def _runs(self) -> Mapping[str, JobRun]:
        if self._journal is None:
            return {}
        try:
            return {run.command: JobRun(at=run.at, code=run.code) for run in self._journal.last_runs()}
        except JournalError:
            # Told already by whatever wrote last; schedules cannot be judged then.
            return {}

    def _note(self, found: tuple[Finding, ...], *, ends: Sequence[str]) -> tuple[Finding, ...]:
        """Write the findings down; each with the time since which it has been seen."""
        if self._journal is None:
            return found
        rows = [(each.rule, each.target, each.mode, each.since, each.evidence) for each in found]
        try:
            began = self._journal.see(rows, at=self._clock.wall(), ends=ends)
        except JournalError as error:
            self._notice(str(error))
            return found
        return tuple(replace(each, since=began[each.rule, each.target]) for each in found)

    def _release(self, view: View, only: str | None) -> None:
        """Let go of quarantined targets that every one of enough snapshots shows healthy."""
        quarantined = self._ledger.quarantined
        if not quarantined or len(view.samples) < self._settings.healing.confirm[1]:
            return
        for key in quarantined - rules.suspected(view):
            if _covers(only, key) and _healthy(key, view):
                finding = Finding(rule="", target=key, evidence={"says": "healthy again"}, since=view.now)
                self._ledger.mark(finding, "release", "healthy again")
                self._notice(f"{key} is healthy again and released from quarantine")
                self._alerted.pop(key, None)

    def _report(self, found: tuple[Finding, ...], run: str | None, *, dry: bool) -> Report:
        if not found:
            return Report(findings=(), remedies=())
        turn = uuid.uuid4().hex[:12]
        judged = arbiter.judge(found, self._bench(run, turn))
        return Report(
            findings=found, remedies=tuple(self._ruled(each, found, run, turn, dry) for each in judged)
        )

    def _bench(self, run: str | None, turn: str) -> Bench:
        """What the arbiter has to know; what this very ``turn`` has done already is no reason against it."""
        latest = self._samples[-1][1] if self._samples else None
        waiting = [each for each in self._pending.values() if each.written.turn != turn]
        return Bench(
            hold=self._hold(run),
            stopped=switches.wanted_stopped(self._root),
            needs=arbiter.needs(self._settings),
            unready=arbiter.unready(latest, self._settings),
            quarantined=self._ledger.quarantined,
            oomed=frozenset(f"container:{name}" for name in self.ooms),
            pending={
                each.finding.key: f"{each.finding.action} has yet to show its effect" for each in waiting
            },
            acts=lambda key: [act for act in self._ledger.acts(key) if act.turn != turn],
            limits=arbiter.limits(self._settings),
            now=self._clock.now(),
        )

    def _hold(self, run: str | None) -> Hold | None:
        if not self._settings.healing.enabled:
            return Hold(reason="healing.enabled is False in the settings")
        wall = self._clock.wall()
        return switches.paused(self._root, wall) or switches.applying(self._root, run=run)

    def _ruled(
        self, judged: Judged, found: tuple[Finding, ...], run: str | None, turn: str, dry: bool
    ) -> Remedy:
        match judged.ruling:
            case "go" if dry:
                return _remedy(judged, "planned", judged.reason)
            case "go":
                return self._acted(judged, found, run, turn)
            case "deferred":
                return _remedy(judged, "deferred", judged.reason)
            case _:
                return self._quarantined(judged, dry)

    def _acted(self, judged: Judged, found: tuple[Finding, ...], run: str | None, turn: str) -> Remedy:
        with switches.turn(self._root) as ours:
            if not ours:
                return _remedy(judged, "deferred", "another act is going on on this host")
            # What somebody else has done while we looked counts as well.
            self._ledger.refresh()
            rulings = arbiter.judge(found, self._bench(run, turn))
            again = next((each for each in rulings if each.finding == judged.finding), judged)
            if again.ruling == "go":
                return self._act(again, turn)
        return self._ruled(again, found, run, turn, dry=False)

    def _act(self, judged: Judged, turn: str) -> Remedy:
        finding = judged.finding
        written = self._ledger.begin(finding, turn)
        if written.row is None and not self._resident:
            self._ledger.finish(written, result="deferred", reason="not begun")
            return _remedy(
                judged,
                "deferred",
                "the journal cannot be written, so how often this was tried would be forgotten",
            )
        outcome = self._acts.act(finding, judged.attempt)
        took = self._ledger.finish(written, result=outcome.result, reason=outcome.says)
        if outcome.result == "done":
            self._pending[finding.target] = Pending(written=written, finding=finding)
        else:
            self._ledger.verify(written, helped=False)
        return replace(_remedy(judged, outcome.result, outcome.says), took_ms=took)

    def _settled(self, pending: Pending, helped: bool) -> Remedy:
        finding = pending.finding
        says = "it helped" if helped else "it did not help"
        self._ledger.verify(pending.written, helped=helped)
        return Remedy(
            action=finding.action or "",
            target=finding.target,
            reason=f"{finding.evidence['says']}: {says}",
            result="done" if helped else "failed",
            rule=finding.rule,
            evidence=finding.evidence,
        )

    def _quarantined(self, judged: Judged, dry: bool) -> Remedy:
        finding, now = judged.finding, self._clock.now()
        if dry:
            return _remedy(judged, "quarantined", judged.reason)
        if finding.key not in self._ledger.quarantined:
            self._ledger.mark(finding, "quarantine", judged.reason)
        if now - self._alerted.get(finding.key, -ALERT_AGAIN) >= ALERT_AGAIN:
            self._alerted[finding.key] = now
            self._notice(
                f"ALERT {finding.target}: {finding.evidence['says']}. {judged.reason}; it is left as it is"
                " until it is healthy. Look at it: calm journal"
            )
        return _remedy(judged, "quarantined", judged.reason)


def run_of_this_apply() -> str | None:
    """The apply that this heal is a part of: it must not wait for its own lock."""
    return os.environ.get("CALM_RUN")


def _healthy(key: str, view: View) -> bool:
    """Whether every snapshot shows it well; a container that crashes every minute is not, in between."""
    kind, _, name = key.partition(":")
    if kind != "container":
        return True
    shown = [
        next((each for each in snapshot.containers or () if each.name == name), None)
        for snapshot in view.samples
    ]
    well = [each for each in shown if each is not None and arbiter.works(each.state, each.health)]
    return len(well) == len(shown) and len({each.started_at for each in well}) == 1


def _covers(only: str | None, key: str) -> bool:
    """Whether a look at ``only`` sees enough to call ``key`` healthy."""
    if only is None or only == key:
        return True
    return {"docker": "container", "lmstudio": "lmstudio"}.get(only) == key.partition(":")[0]


def _remedy(judged: Judged, result: str, reason: str) -> Remedy:
    finding = judged.finding
    return Remedy(
        action=finding.action or "",
        target=finding.target,
        reason=reason,
        result=result,  # type: ignore[arg-type]
        rule=finding.rule,
        evidence=finding.evidence,
    )
