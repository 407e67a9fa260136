"""Every rule, and how suspicions become findings. Pure: no clock, no input, no output.

A rule looks at one snapshot. Sampled rules count only what m of the last n snapshots show, the newest one
among them: what was true a moment ago is no reason to act now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from calm.heal import rules_docker, rules_lmstudio
from calm.heal.budget import DAY, confirmed
from calm.heal.model import Finding, Mode, budget_key
from calm.heal.view import Rule, Suspect, View
from calm.health.model import Snapshot
from calm.settings.schedules import Job, Trigger

_PERIODS = {"hourly": 3600.0, "daily": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY}
NOTED = ("heal", "prune", "check")
"""The commands whose runs the journal notes, so that one that is late can be told."""

_FINE = frozenset({0, 2, 7})
"""Exit codes of a scheduled command that did its work: what it found is told by other rules."""


def disk_low(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """The disk that holds calm's root runs full."""
    machine, least = snapshot.machine, view.settings.healing.rules.disk_low.free_percent
    if machine is None or machine.disk_percent is None or 100 - machine.disk_percent >= least:
        return
    yield Suspect(
        target="disk",
        action="prune",
        says=f"the disk has {100 - machine.disk_percent:.0f} % left",
        evidence={"disk_percent": machine.disk_percent, "disk_free_bytes": machine.disk_free_bytes},
    )


def schedule_late(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """A schedule has not run when it should have, or its last run failed."""
    grace = view.settings.healing.rules.schedule_late.grace
    for name, job in sorted(view.settings.schedules.jobs.items()):
        period = _period(job.trigger)
        if not job.enabled or period is None or job.run.split()[0] not in NOTED:
            continue
        run = view.runs.get(job.run)
        said = _late(job, run.at if run else view.applied_at, snapshot.taken_at, period + grace)
        if said is None and run is not None and run.code not in _FINE:
            said = f"its last run ended with exit code {run.code}"
        if said is not None:
            yield Suspect(
                target=f"schedule:{name}",
                says=f"schedule {name} ({job.run}): {said}",
                evidence={"command": job.run, "last_run": run.at if run else None},
            )


RULES: tuple[Rule, ...] = (
    *rules_docker.RULES,
    *rules_lmstudio.RULES,
    Rule(name="disk-low", scope="host", look=disk_low),
    Rule(name="schedule-late", scope="host", look=schedule_late, sampled=False),
)


def look(view: View, only: str | None = None, *, without: Collection[str] = ()) -> tuple[Finding, ...]:
    """What is the matter with this host.

    ``only`` is ``lmstudio``, ``docker`` or a target; ``without`` are scopes that are not looked at now.
    """
    rules = (rule for rule in RULES if _wanted(rule, only) and rule.scope not in without)
    found = (finding for rule in rules for finding in _findings(rule, view))
    return tuple(finding for finding in found if _on_target(finding, only))


def suspected(view: View) -> frozenset[str]:
    """The budget keys that any rule which may act sees something of in any sample, confirmed or not."""
    acting = [rule for rule in RULES if view.settings.healing.rules[rule.name].do == "act"]
    suspects = (suspect for rule in acting for sample in view.samples for suspect in rule.look(sample, view))
    return frozenset(budget_key(suspect.target) for suspect in suspects if not suspect.only_report)


def quiet(view: View) -> bool:
    """Whether no rule that samples sees anything in any snapshot: more of them could confirm nothing."""
    sampled = [rule for rule in RULES if rule.sampled and view.settings.healing.rules[rule.name].do != "off"]
    return not any(True for rule in sampled for sample in view.samples for _ in rule.look(sample, view))


def looked_at(only: str | None = None, *, without: Collection[str] = ()) -> tuple[str, ...]:
    """The rules whose findings have ended if :func:`look` no longer names them; none for a target alone."""
    rules = (rule for rule in RULES if rule.scope not in without)
    return tuple(rule.name for rule in rules if only is None or rule.scope == only)


def _wanted(rule: Rule, only: str | None) -> bool:
    return only not in ("lmstudio", "docker") or rule.scope == only


def _on_target(finding: Finding, only: str | None) -> bool:
    return only in (None, "lmstudio", "docker", finding.target, finding.target.partition(":")[2])


def _findings(rule: Rule, view: View) -> Iterator[Finding]:
    do = view.settings.healing.rules[rule.name].do
    if do == "off" or not view.samples:
        return
    for suspect in rule.look(view.samples[-1], view):
        looks = _looks(rule, view, suspect.target)
        if not rule.sampled or confirmed([hit is not None for hit in looks], *view.settings.healing.confirm):
            yield _finding(rule, suspect, looks, view, do)


def _looks(rule: Rule, view: View, target: str) -> list[Suspect | None]:
    """What each sample since the last act makes of the target: an act begins the count anew."""
    since = view.acted.get(budget_key(target), 0.0)
    times = view.times or [sample.taken_at for sample in view.samples]
    pairs = zip(times, view.samples, strict=True) if rule.sampled else ()
    return [_hit(rule.look(sample, view), target) for at, sample in pairs if at > since]


def _hit(suspects: Iterable[Suspect], target: str) -> Suspect | None:
    return next((suspect for suspect in suspects if suspect.target == target), None)


def _finding(rule: Rule, suspect: Suspect, looks: Sequence[Suspect | None], view: View, do: Mode) -> Finding:
    evidence = {"says": suspect.says, **suspect.evidence}
    if rule.sampled:
        evidence["confirmed"] = [sum(hit is not None for hit in looks), len(looks)]
    return Finding(
        rule=rule.name,
        target=suspect.target,
        evidence=evidence,
        since=suspect.since if suspect.since is not None else view.samples[-1].taken_at,
        mode="report" if suspect.only_report else do,
        action=None if suspect.only_report else suspect.action,
    )


def _period(trigger: Trigger) -> float | None:
    """Seconds between two runs at most, where that can be said."""
    return trigger.every if trigger.kind == "every" else _PERIODS.get(trigger.kind)


def _late(job: Job, last: float | None, now: float, allowed: float) -> str | None:
    if last is None or now - last <= allowed:
        return None
    return f"it should run {job.trigger.kind}, and last did {(now - last) / 3600:.0f} h ago"
