"""Who may act on what, and in which order. Pure: what holds, what was done and what is sick come in.

There is one arbiter for the timer, the daemon and the push run, and it lets one act happen at a time: two
remediators that do not know of each other restart what the other has just restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from calm.heal import budget
from calm.heal.budget import Act, Limits
from calm.heal.model import Finding
from calm.heal.switches import Hold
from calm.heal.view import is_ours
from calm.health.model import Snapshot

if TYPE_CHECKING:
    from calm.settings import Settings

OOM = "container-oom-killed"
Ruling = Literal["go", "deferred", "spent", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finding that would be acted on, and what was ruled. ``attempt`` is the how manieth of a row."""

    finding: Finding
    ruling: Ruling
    reason: str
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the arbiter knows besides the findings.

    ``hold`` stops everything, ``stopped`` are the parts that ``calm down`` stopped, ``unready`` are services
    that do not work yet, ``oomed`` are targets that were killed for want of memory of late, ``pending`` are
    keys whose last act is not verified yet.
    """

    hold: Hold | None
    stopped: frozenset[str]
    needs: Mapping[str, Sequence[str]]
    unready: frozenset[str]
    quarantined: frozenset[str]
    oomed: frozenset[str]
    pending: Mapping[str, str]
    acts: Callable[[str], Sequence[Act]]
    limits: Limits
    now: float


def judge(findings: Sequence[Finding], bench: Bench) -> tuple[Judged, ...]:
    """Rule on every finding that asks for an act, dependencies first, one rule per target."""
    ooms = {finding.target for finding in findings if finding.rule == OOM} | bench.oomed
    judged: list[Judged] = []
    taken: dict[str, Finding] = {}
    for finding in sorted(
        (each for each in findings if each.acts), key=lambda each: _depth(_service(each), bench.needs)
    ):
        first = taken.setdefault(finding.key, finding)
        if first.rule != finding.rule:
            continue
        limits = replace(bench.limits, acts=1) if finding.target in ooms else bench.limits
        judged.append(_rule(finding, bench, limits))
    return tuple(judged)


def needs(settings: Settings) -> dict[str, tuple[str, ...]]:
    """By service, the services that it needs."""
    known: dict[str, tuple[str, ...]] = {"agent-api": ("postgres", "redis")}
    for name, raw in settings.docker.services.items():
        listed = raw.get("depends_on") or ()
        known[name] = (*known.get(name, ()), *(str(each) for each in listed))
    return known


def in_order(services: Iterable[str], needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The services, each after what it needs."""
    return tuple(sorted(services, key=lambda name: _depth(name, needs)))


def unready(snapshot: Snapshot | None, settings: Settings) -> frozenset[str]:
    """Services of ours that do not run, or whose check has not passed."""
    containers = (snapshot.containers if snapshot else None) or ()
    return frozenset(
        each.service
        for each in containers
        if each.service and is_ours(each, settings) and not works(each.state, each.health)
    )


def works(state: str, health: str | None) -> bool:
    return state == "running" and health in (None, "healthy")


def limits(settings: Settings) -> Limits:
    """The budget of the settings."""
    given = settings.healing.budget
    return Limits(acts=given.acts, window=given.window, per_day=given.per_day)


def _rule(finding: Finding, bench: Bench, limits: Limits) -> Judged:
    held = _held(finding, bench)
    acts = bench.acts(finding.key)
    attempt = budget.row(acts, now=bench.now, limits=limits) + 1
    if held is not None:
        return Judged(finding=finding, ruling="deferred", reason=held, attempt=attempt)
    if finding.key in bench.quarantined:
        reason = "left as it is: the budget is spent, and it has not been healthy since"
        return Judged(finding=finding, ruling="quarantined", reason=reason, attempt=attempt)
    decision = budget.decide(finding.key, acts, now=bench.now, limits=limits)
    ruling: dict[str, Ruling] = {"go": "go", "wait": "deferred", "spent": "spent"}
    said = finding.evidence["says"] if decision.verdict == "go" else decision.reason
    return Judged(finding=finding, ruling=ruling[decision.verdict], reason=str(said), attempt=attempt)


def _held(finding: Finding, bench: Bench) -> str | None:
    if bench.hold is not None:
        return bench.hold.reason
    if _part(finding) in bench.stopped:
        return "calm down stopped it; calm up starts it again"
    if finding.key in bench.pending:
        return bench.pending[finding.key]
    sick = [name for name in bench.needs.get(_service(finding), ()) if name in bench.unready]
    return f"it waits for {' and '.join(sick)}, which it needs" if sick else None


def _part(finding: Finding) -> str | None:
    kind = finding.target.partition(":")[0]
    return {"container": "docker", "lmstudio": "lmstudio", "model": "lmstudio"}.get(kind)


def _service(finding: Finding) -> str:
    return str(finding.evidence.get("service") or "")


def _depth(service: str, needs: Mapping[str, Iterable[str]], seen: frozenset[str] = frozenset()) -> int:
    """How far down the dependencies reach; a circle counts once."""
    below = [name for name in needs.get(service, ()) if name not in seen]
    return 1 + max((_depth(name, needs, seen | {service}) for name in below), default=-1)
