"""The rules about containers and what Docker leaves lying about. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from calm.heal.view import Rule, Suspect, View, is_ours, megabytes
from calm.health.model import Container, Snapshot

MIB = 2**20
_GONE = frozenset({"exited", "dead", "created"})
_LOOPING = "restarting"


def unhealthy(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Docker's own check failed as often as its retries say: confirmed already."""
    for each in snapshot.containers or ():
        if each.state == "running" and each.health == "unhealthy":
            yield Suspect(
                target=_target(each),
                action="restart-container",
                only_report=not is_ours(each, view.settings),
                since=each.health_since,
                says=f"{each.name} fails its health check",
                evidence=_shown(each) | {"failing_streak": each.failing_streak},
            )


def stopped(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """A container that apply has made does not run, or is gone."""
    if snapshot.containers is None:
        return
    present = {each.name: each for each in snapshot.containers}
    retired = view.settings.docker.retired
    names = {name: service for service, name in view.wanted.items() if service not in retired}
    for each in snapshot.containers:
        if is_ours(each, view.settings) and each.service not in retired:
            names.setdefault(each.name, each.service or each.name)
    for name, service in sorted(names.items()):
        found = present.get(name)
        if found is None:
            yield Suspect(
                target=f"container:{name}",
                action="recreate",
                says=f"{name} is gone; service {service} should run",
                evidence={"service": service},
            )
        elif found.state in _GONE and not _is_done(found):
            yield Suspect(
                target=_target(found),
                action="start-container",
                only_report=not is_ours(found, view.settings),
                since=found.finished_at,
                says=f"{name} should run and has stopped{_with_code(found)}",
                evidence=_shown(found) | {"exit_code": found.exit_code},
            )


def crash_looping(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Docker has started it again and again within the window."""
    rule = view.settings.healing.rules.container_crash_looping
    for each in snapshot.containers or ():
        # Of all restarts no more can lie within the window, and few containers have had any.
        if (each.restarts or 0) < rule.restarts:
            continue
        times = _restarts_within(each, view, rule.window)
        if times >= rule.restarts:
            yield Suspect(
                target=_target(each),
                action="restart-container",
                only_report=not is_ours(each, view.settings),
                says=f"{each.name} was started {times} times in {rule.window / 60:.0f} min and does not stay",
                evidence=_shown(each) | {"restarts": each.restarts, "exit_code": each.exit_code},
            )


def oom_killed(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Killed for want of memory: its limit is too low. Starting it again does not mend that."""
    for each in snapshot.containers or ():
        told = view.ooms.get(each.name)
        if not each.oom_killed and not each.oom_kills and told is None:
            continue
        limit = each.memory_limit_bytes
        figure = None if limit is None else _round_up(1.5 * limit)
        yield Suspect(
            target=_target(each),
            only_report=True,
            since=told if told is not None else each.finished_at,
            says=f"{each.name} was killed for want of memory{_figures(each, limit, figure)}",
            evidence=_shown(each)
            | {"memory_limit_bytes": limit, "suggested_bytes": figure, "oom_kills": each.oom_kills},
        )


def throttled(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """The kernel holds it back from its CPU limit for a good part of the time."""
    limit = view.settings.healing.rules.container_throttled.percent
    for each in snapshot.containers or ():
        if each.throttled_percent is not None and each.throttled_percent >= limit:
            yield Suspect(
                target=_target(each),
                only_report=True,
                says=f"{each.name} is held back in {each.throttled_percent:.0f} % of the scheduler's periods"
                f" by its limit of {each.cpus_limit} cpus",
                evidence=_shown(each)
                | {"throttled_percent": each.throttled_percent, "cpus_limit": each.cpus_limit},
            )


def near_limit(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Its memory is close to the limit; beyond it the kernel kills."""
    limit = view.settings.healing.rules.container_near_limit.percent
    for each in snapshot.containers or ():
        if not each.memory_limit_bytes or each.memory_bytes is None or each.state != "running":
            continue
        percent = 100 * each.memory_bytes / each.memory_limit_bytes
        if percent >= limit:
            figure = _round_up(1.5 * each.memory_limit_bytes)
            yield Suspect(
                target=_target(each),
                only_report=True,
                says=f"{each.name} uses {percent:.0f} % of its memory limit of"
                f" {megabytes(each.memory_limit_bytes)} MB; {megabytes(figure)}M would leave room",
                evidence=_shown(each)
                | {
                    "memory_bytes": each.memory_bytes,
                    "memory_limit_bytes": each.memory_limit_bytes,
                    "suggested_bytes": figure,
                },
            )


def junk(snapshot: Snapshot, view: View) -> Iterator[Suspect]:  # noqa: ARG001
    """Stopped containers and dangling images take up much space."""
    found, limit = view.junk, view.settings.healing.rules.junk.size
    if found is not None and found.ours + found.others >= limit:
        yield Suspect(
            target="docker:junk",
            action="prune" if found.ours else None,
            says=f"stopped containers and dangling images take {megabytes(found.ours + found.others)} MB;"
            f" calm prune would free {megabytes(found.ours)} MB",
            evidence={"ours_bytes": found.ours, "others_bytes": found.others, "limit_bytes": limit},
        )


RULES = (
    Rule(name="container-oom-killed", scope="docker", look=oom_killed, sampled=False),
    Rule(name="container-unhealthy", scope="docker", look=unhealthy, sampled=False),
    Rule(name="container-crash-looping", scope="docker", look=crash_looping, sampled=False),
    Rule(name="container-stopped", scope="docker", look=stopped),
    Rule(name="container-throttled", scope="docker", look=throttled),
    Rule(name="container-near-limit", scope="docker", look=near_limit),
    Rule(name="junk", scope="docker", look=junk, sampled=False),
)


def _target(container: Container) -> str:
    return f"container:{container.name}"


def _shown(container: Container) -> dict[str, object]:
    return {
        "id": container.id[:12],
        "service": container.service,
        "state": container.state,
        "health": container.health,
        "started_at": container.started_at,
    }


def _with_code(container: Container) -> str:
    """Unknown where the engine did not answer for this one container."""
    return "" if container.exit_code is None else f" with exit code {container.exit_code}"


def _is_done(container: Container) -> bool:
    """A job that is meant to end and has ended well."""
    return container.restart_policy in (None, "no", "on-failure") and container.exit_code == 0


def _restarts_within(container: Container, view: View, window: float) -> int:
    """How often Docker itself has started it again within the window.

    Docker counts from zero when a container is made or started by somebody, so after an act of ours all
    counts are new. Else the earliest count of the window is taken off; where the trail is too short for that,
    it has to be restarting right now.
    """
    if container.restarts is None:
        return 0
    start = view.now - window
    if view.acted.get(_target(container), 0.0) >= start or (container.created_at or 0.0) >= start:
        return container.restarts
    counts = [
        (trace.at, trace.restarts[container.id]) for trace in view.trail if container.id in trace.restarts
    ]
    within = [(at, count) for at, count in counts if at >= start and count <= container.restarts]
    if within and within[0][0] <= start + window / 2:
        return container.restarts - within[0][1]
    return container.restarts if container.state == _LOOPING else 0


def _round_up(size: float, step: int = 64 * MIB) -> int:
    return int(-(-size // step) * step)


def _figures(container: Container, limit: int | None, figure: int | None) -> str:
    if limit is None or figure is None:
        return "; the host itself ran out of memory"
    key = (container.service or container.name).replace("-", "_")
    return f" at its limit of {megabytes(limit)} MB; set docker.{key}.memory to {megabytes(figure)}M"
