"""The engine's containers: one list, an inspect of those that changed, and what each uses.

``docker stats`` as the SDK calls it by default takes two seconds a container, since the engine then takes two
samples itself; here the last sample is ours. On Linux the kernel's own files are read in place of asking.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from calm.health import cgroups, engine
from calm.health.cgroups import Usage
from calm.health.model import Container, Docker
from calm.health.processes import cpu_percent

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

TIMEOUT = 2

STALE = 300.0
"""Seconds after which a container is inspected again although the list shows no change."""

RELISTED = 60.0
"""Seconds after which the list is asked for again although no event has told of a change."""

YOUNG = re.compile(r"second")
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
OWNED = "calm.project"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is remembered of a container from one snapshot to the next; times are monotonic.

    ``stuck`` says that the engine did not answer for it, and ``inspected`` is what its list had to say.
    """

    listed: Mapping[str, Any]
    inspected: Mapping[str, Any]
    inspected_at: float
    folders: Mapping[str, Path]
    usage: Usage
    at: float
    stuck: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is remembered of an engine: its containers by id, and its version, asked for at ``asked_at``.

    ``listed_at`` is when the list of containers was asked for; both are monotonic.
    """

    containers: Mapping[str, Kept]
    listed_at: float
    version: str | None
    asked_at: float

    def holds(self, unchanged: Callable[[float], bool]) -> bool:
        """Whether the list would say the same again: nothing has happened, and nothing is on its way."""
        if time.monotonic() - self.listed_at >= RELISTED or not unchanged(self.listed_at):
            return False
        return not any(kept.stuck or YOUNG.search(kept.listed["Status"]) for kept in self.containers.values())


@dataclass(frozen=True, kw_only=True)
class Look:
    """The engine, its containers (``None``: could not be asked for) and what to remember of them."""

    docker: Docker
    containers: tuple[Container, ...] | None = None
    memory: Memory | None = None


def look(
    before: Memory | None = None,
    *,
    wait: Callable[[], None] = lambda: None,
    timeout: int = TIMEOUT,
    unchanged: Callable[[float], bool] | None = None,
) -> Look:
    """All containers of the engine, running or not. Never raises.

    ``before`` is what the last look remembers; without it, a second sample is taken after ``wait()``.
    ``unchanged`` says whether the engine has told of no change since a moment (monotonic): then the last list
    is used again, for a while.
    """
    import requests
    from docker.errors import DockerException

    try:
        return _look(engine.connect(timeout=timeout), before, wait, unchanged or _unknown)
    except (DockerException, requests.RequestException, OSError) as error:
        return Look(docker=engine.unreachable(error))


def _unknown(_moment: float) -> bool:
    return False


@dataclass(kw_only=True)
class Engine:
    """The engine, asked for one container at a time.

    A container that is being stopped, or has hung, holds its lock, and the engine then answers for it late or
    never while it answers for all others. The first one that takes too long is waited for; further questions
    are left for the next look.
    """

    client: APIClient
    tired: bool = False

    def inspect(self, container: str) -> Mapping[str, Any] | None:
        """All that there is to know of a container: empty if it has gone, ``None`` if no answer comes."""
        return self._ask(lambda: self.client.inspect_container(container))

    def stats(self, container: str) -> Mapping[str, Any] | None:
        """What it uses, of one sample: by default the engine takes two, a second apart."""
        return self._ask(lambda: self.client.stats(container, stream=False, one_shot=True))

    def _ask(self, question: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | None:
        from docker.errors import APIError, NotFound
        from requests import Timeout

        if self.tired:
            return None
        try:
            return question()
        except NotFound:
            return {}
        except APIError:
            return None
        except Timeout:
            self.tired = True
            return None


def _look(
    client: APIClient, before: Memory | None, wait: Callable[[], None], unchanged: Callable[[float], bool]
) -> Look:
    earlier = before.containers if before is not None else {}
    engine_ = Engine(client=client)
    now = _by_the_last_list(engine_, before, unchanged) if before is not None else None
    listed_at = before.listed_at if before is not None and now is not None else time.monotonic()
    if now is None:
        now = _sampled(engine_, client.containers(all=True), earlier)
    if before is None and now:
        earlier = now
        wait()
        now = _sampled_again(engine_, now)
    containers = [_container(kept, earlier.get(id_)) for id_, kept in now.items()]
    memory = _memory(client, now, before, listed_at)
    return Look(
        docker=Docker(reachable=True, status="answers", version=memory.version),
        containers=tuple(sorted(containers, key=lambda each: each.name)),
        memory=memory,
    )


def _by_the_last_list(
    engine_: Engine, before: Memory, unchanged: Callable[[float], bool]
) -> dict[str, Kept] | None:
    """The same containers sampled again, or ``None`` if the list has to be asked for."""
    if not before.holds(unchanged):
        return None
    now = {id_: _again(engine_, each, each.usage) for id_, each in before.containers.items()}
    again = any(_started_anew(before.containers[id_].usage, kept.usage) for id_, kept in now.items())
    return None if again else now


def _memory(client: APIClient, now: Mapping[str, Kept], before: Memory | None, listed_at: float) -> Memory:
    """What to remember; the version is asked for again now and then, for an engine may be upgraded."""
    if before is not None and time.monotonic() - before.asked_at < STALE:
        return replace(before, containers=now, listed_at=listed_at)
    return Memory(
        containers=now,
        listed_at=listed_at,
        version=client.version().get("Version"),
        asked_at=time.monotonic(),
    )


def _sampled(
    engine_: Engine, listing: Iterable[Mapping[str, Any]], before: Mapping[str, Kept]
) -> dict[str, Kept]:
    rows = [_kept(engine_, listed, before.get(listed["Id"])) for listed in listing]
    return {row.listed["Id"]: row for row in rows if row is not None}


def _sampled_again(engine_: Engine, kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """The same containers with a new sample of what they use."""
    return {id_: _again(engine_, each) for id_, each in kept.items()}


def _again(engine_: Engine, kept: Kept, before: Usage | None = None) -> Kept:
    """With a new sample; ``before`` is as ``calm.health.cgroups`` has it."""
    usage = Usage() if kept.stuck else _usage(engine_, kept.inspected, kept.folders, before)
    return replace(kept, usage=usage, at=time.monotonic())


def _kept(engine_: Engine, listed: Mapping[str, Any], before: Kept | None) -> Kept | None:
    if before is not None and _same(before, listed):
        again = _again(engine_, before)
        if not _started_anew(before.usage, again.usage):
            return replace(again, listed=listed)
    tired = engine_.tired
    inspected = engine_.inspect(listed["Id"])
    if inspected is None:
        # Not even asked for: then the next look asks at once.
        return _stuck(listed, asked_at=float("-inf") if tired else time.monotonic())
    if not inspected:
        return None
    pid = inspected["State"].get("Pid") or 0
    folders = cgroups.folders(pid, listed["Id"]) if pid else {}
    usage = _usage(engine_, inspected, folders)
    now = time.monotonic()
    return Kept(listed=listed, inspected=inspected, inspected_at=now, folders=folders, usage=usage, at=now)


def _stuck(listed: Mapping[str, Any], *, asked_at: float) -> Kept:
    """A container of which only the list speaks."""
    running = listed["State"] in ("running", "paused", "restarting")
    inspected = {
        "Id": listed["Id"],
        "Name": listed["Names"][0] if listed["Names"] else listed["Id"][:12],
        "State": {"Status": listed["State"], "Running": running, "Health": {"Status": _health(listed)}},
        "Config": {"Labels": listed.get("Labels"), "Image": listed.get("Image")},
        "HostConfig": {},
    }
    return Kept(
        listed=listed,
        inspected=inspected,
        inspected_at=asked_at,
        folders={},
        usage=Usage(),
        at=time.monotonic(),
        stuck=True,
    )


def _health(listed: Mapping[str, Any]) -> str | None:
    """The health that the list shows within its sentence: ``Up 5 minutes (healthy)``."""
    found = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", listed["Status"])
    return found.group(1) if found else None


def _same(before: Kept, listed: Mapping[str, Any]) -> bool:
    """Whether the last inspect still holds: the list shows the same state, health and exit code."""
    if time.monotonic() - before.inspected_at > STALE or _signature(before.listed) != _signature(listed):
        return False
    return before.stuck or not YOUNG.search(listed["Status"])


def _signature(listed: Mapping[str, Any]) -> tuple[str, ...]:
    return (listed["State"], *listed["Names"], *re.findall(r"\(.*?\)", listed["Status"]))


def _started_anew(before: Usage, now: Usage) -> bool:
    """Whether counters went back, or went away: the container was started again in between."""
    if now.cpu_seconds is None:
        return before.cpu_seconds is not None
    return before.cpu_seconds is not None and now.cpu_seconds < before.cpu_seconds


def _usage(
    engine_: Engine,
    inspected: Mapping[str, Any],
    folders: Mapping[str, Path],
    before: Usage | None = None,
) -> Usage:
    if not inspected["State"].get("Running"):
        return Usage()
    read = cgroups.read(folders, before) if folders else None
    return read or _asked(engine_.stats(inspected["Id"]) or {})


def _asked(stats: Mapping[str, Any]) -> Usage:
    """What the engine says that a container uses."""
    cpu, memory = stats.get("cpu_stats") or {}, stats.get("memory_stats") or {}
    detail, throttling = memory.get("stats") or {}, cpu.get("throttling_data") or {}
    spent, used = (cpu.get("cpu_usage") or {}).get("total_usage"), memory.get("usage")
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return Usage(
        cpu_seconds=None if spent is None else spent / 1e9,
        memory_bytes=None if used is None else max(0, used - cache),
        pids=(stats.get("pids_stats") or {}).get("current"),
        periods=throttling.get("periods"),
        throttled_periods=throttling.get("throttled_periods"),
    )


def _container(now: Kept, before: Kept | None) -> Container:
    inspected, usage = now.inspected, now.usage
    state, limits = inspected["State"], inspected["HostConfig"]
    labels, health = inspected["Config"].get("Labels") or {}, state.get("Health") or {}
    earlier = before.usage if before is not None else Usage()
    return Container(
        name=inspected["Name"].lstrip("/"),
        service=labels.get(SERVICE),
        id=inspected["Id"],
        state=state["Status"],
        health=health.get("Status") if health.get("Status") != "none" else None,
        restarts=inspected.get("RestartCount"),
        oom_killed=state.get("OOMKilled"),
        cpu_percent=_cpu(now, before),
        memory_bytes=usage.memory_bytes,
        memory_limit_bytes=usage.memory_limit_bytes or limits.get("Memory") or None,
        cpus_limit=_cpus(limits),
        project=labels.get(OWNED) or labels.get(PROJECT),
        owned=OWNED in labels,
        image=inspected["Config"].get("Image"),
        stuck=now.stuck,
        created_at=_moment(inspected.get("Created")),
        started_at=_moment(state.get("StartedAt")),
        finished_at=_moment(state.get("FinishedAt")),
        exit_code=None if state.get("Running") else state.get("ExitCode"),
        restart_policy=(limits.get("RestartPolicy") or {}).get("Name") or None,
        health_since=_health_since(health),
        failing_streak=health.get("FailingStreak"),
        start_period_seconds=_start_period(inspected),
        pids=usage.pids,
        oom_kills=usage.oom_kills,
        periods=usage.periods,
        throttled_periods=usage.throttled_periods,
        throttled_percent=_throttled(earlier, usage),
    )


def _cpu(now: Kept, before: Kept | None) -> float | None:
    if before is None:
        return None
    return cpu_percent(before.usage.cpu_seconds, now.usage.cpu_seconds, span=now.at - before.at)


def _throttled(before: Usage, now: Usage) -> float | None:
    counters = (before.periods, before.throttled_periods, now.periods, now.throttled_periods)
    if any(counter is None for counter in counters):
        return None
    periods = (now.periods or 0) - (before.periods or 0)
    held = (now.throttled_periods or 0) - (before.throttled_periods or 0)
    return round(100 * held / periods, 1) if periods > 0 and held >= 0 else None


def _cpus(limits: Mapping[str, Any]) -> float | None:
    if nano := limits.get("NanoCpus"):
        return float(nano) / 1e9
    quota = limits.get("CpuQuota") or 0
    return quota / (limits.get("CpuPeriod") or 100_000) if quota > 0 else None


def _health_since(health: Mapping[str, Any]) -> float | None:
    """When the first of the last checks that all went the same way began; the engine keeps five."""
    log = health.get("Log") or []
    since = None
    for entry in reversed(log):
        if (entry["ExitCode"] == 0) != (log[-1]["ExitCode"] == 0):
            break
        since = _moment(entry["Start"])
    return since


def _start_period(inspected: Mapping[str, Any]) -> float | None:
    check = inspected["Config"].get("Healthcheck")
    return None if not check else (check.get("StartPeriod") or 0) / 1e9


def _moment(text: str | None) -> float | None:
    """Docker's time stamp in seconds since the epoch; the year 1 is its way to say never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).timestamp()
