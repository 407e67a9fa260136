"""One look at a host: machine, LM Studio, watched processes, containers and end points, all at once.

    first = take(settings)                       # waits for its window once, to measure CPU
    second = take(settings, previous=first)      # does not: CPU since the first

Nothing here starts, wakes or loads anything, and nothing needs POSIX.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from calm.health import containers, endpoints, home, identity, lmstudio, machine, processes
from calm.health.home import ANY_ADDRESS, Home
from calm.health.identity import Identity
from calm.health.lmstudio import Between, Remembered
from calm.health.model import (
    Api,
    Docker,
    Endpoint,
    LMStudio,
    LoadedModel,
    Machine,
    Sample,
    Snapshot,
    Watched,
)
from calm.health.parallel import Workers, together
from calm.health.processes import Known, Memories

if TYPE_CHECKING:
    from calm.settings import Settings

T = TypeVar("T")

WINDOW = 0.5
SHORTEST = 0.2
"""Least part of the window between two samples; loading a library may have taken the rest."""

DEADLINE = 6.0
"""Seconds that any part may take besides the window; each has shorter ones of its own."""

ACTIVE = 5.0
"""Percent of one core from which a worker counts as answering somebody."""

OWN_QUESTION = 0.2
"""Seconds to wait at most for the answer to calm's own question before LM Studio's connections are counted.

While it is being asked, calm is connected itself."""

GAP = 120.0
"""Seconds between two snapshots over which idleness is carried on without counters that prove it."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """What the process table shows: the machine's figures, LM Studio's instances, watched processes."""

    machine: Machine
    lmstudio: LMStudio
    watched: tuple[Watched, ...]
    sample: Sample


def take(
    settings: Settings,
    *,
    window: float = WINDOW,
    previous: Snapshot | None = None,
    unchanged: Callable[[float], bool] | None = None,
    workers: Workers | None = None,
) -> Snapshot:
    """A snapshot of this host; what could not be measured is ``None`` in it, with a line in ``problems``.

    Without ``previous``, or with one that was read from JSON, CPU is measured over ``window`` seconds.
    ``unchanged`` is as :func:`calm.health.containers.look` has it, ``workers`` are threads for all parts.
    """
    began, spent, taken_at = time.monotonic(), time.process_time(), time.time()
    before = previous.sample if previous is not None else None
    wait = partial(_wait, began, window)
    found = home.read(home.find(settings.lmstudio.home), default_port=settings.lmstudio.server.port)
    parts = _parts(settings, found, before, wait, unchanged)
    done = (workers.together if workers else together)(parts, timeout=DEADLINE + window)

    local, look = _taken(done, "processes", Local), _taken(done, "containers", containers.Look)
    docker = look.docker if look else Docker()
    answers = [done[name] for name in parts if name.startswith("endpoint ")]
    endpoint, api = _taken(done, "lmstudio", tuple) or (None, Api())
    seen = local.lmstudio if local else LMStudio()
    waited = 0.0 if before else window
    return Snapshot(
        host=platform.node(),
        taken_at=taken_at,
        machine=local.machine if local else None,
        lmstudio=_with_api(seen, replace(api, port=found.port), found, taken_at, previous),
        watched=local.watched if local else None,
        docker=docker,
        containers=look.containers if look else None,
        endpoints=tuple(_wanted([endpoint, *answers], docker, settings)),
        cost_ms=round(1000 * (time.monotonic() - began - waited), 1),
        cpu_ms=round(1000 * (time.process_time() - spent), 1),
        window=round(began - before.at, 3) if before else window,
        problems=tuple(f"{name}: {each}" for name, each in done.items() if isinstance(each, Exception)),
        sample=_sample(local, look),
    )


def _wait(began: float, window: float) -> None:
    """Sleep to the end of the window, and long enough to measure where a part has begun late in it."""
    time.sleep(max(window - (time.monotonic() - began), SHORTEST * window))


def _parts(
    settings: Settings,
    found: Home,
    before: Sample | None,
    wait: Callable[[], None],
    unchanged: Callable[[float], bool] | None,
) -> dict[str, Callable[[], Any]]:
    """What is measured at the same time, by name. An end point's name begins with ``endpoint``."""
    answered = threading.Event()
    parts: dict[str, Callable[[], Any]] = {
        "processes": partial(_local, settings, found, before, wait, answered)
    }
    if found.url and _present(settings.lmstudio.enabled, found):
        parts["lmstudio"] = partial(_asked, found.url, answered)
    else:
        answered.set()
    if settings.docker.enabled is not False:
        kept = before.containers if before is not None else None
        parts["containers"] = partial(containers.look, kept, wait=wait, unchanged=unchanged)
        parts |= _services(settings)
    return parts


def _asked(url: str, answered: threading.Event) -> tuple[Endpoint, Api]:
    try:
        return endpoints.lmstudio(url)
    finally:
        answered.set()


def _present(enabled: bool | str, found: Home) -> bool:
    return found.exists if enabled == "auto" else bool(enabled)


def _services(settings: Settings) -> dict[str, Callable[[], Endpoint]]:
    """The services of the stack, each with a question that only a living one answers."""
    docker = settings.docker
    host = ANY_ADDRESS.get(docker.bind, docker.bind)
    asked: dict[str, Callable[[], Endpoint]] = {
        "endpoint postgres": partial(endpoints.postgres, "postgres", host, docker.postgres.port),
        "endpoint redis": partial(endpoints.redis, "redis", host, docker.redis.port),
    }
    if docker.agent_api.enabled:
        named = f"[{host}]" if ":" in host else host
        url = f"http://{named}:{docker.agent_api.port}/api/health"
        asked["endpoint agent-api"] = partial(endpoints.http, "agent-api", url)
    return asked


def _wanted(answers: list[Any], docker: Docker, settings: Settings) -> list[Endpoint]:
    """The answers, without those of services that a host without Docker does not have."""
    given = [answer for answer in answers if isinstance(answer, Endpoint)]
    if docker.status == "absent" and settings.docker.enabled == "auto":
        return [answer for answer in given if answer.ok or answer.name == "lmstudio"]
    return given


def _local(
    settings: Settings,
    found: Home,
    before: Sample | None,
    wait: Callable[[], None],
    answered: threading.Event,
) -> Local:
    remembered = Remembered.after(
        before.remembered if before else None,
        Identity(
            system=platform.system(),
            home=str(found.path) if found.exists else None,
            installed=found.executables,
            executables=settings.lmstudio.executables,
        ),
        frozenset(identity.plain(each.name) for each in settings.healing.watched if each.do != "off"),
    )
    read_at = time.time()
    table = processes.read(remembered.table, interesting=remembered.interesting)
    trees = identity.trees((row.process for row in table.values()), remembered.identity)
    watched = [row for row in table.values() if row.interesting and remembered.is_watched(row.process)]
    mine = [table[member.pid] for tree in trees.instances for member in tree.members]

    start = before or _sampled([*mine, *watched], read_at)
    if before is None:
        wait()
    now = _sampled([*mine, *watched], read_at)
    answered.wait(OWN_QUESTION)
    between = Between(
        before=start.processes, after=now.processes, span=now.at - start.at, since=start.read_at
    )
    return Local(
        machine=machine.look(
            Path(settings.root).expanduser(), start.machine, now.machine, processes=len(table)
        ),
        lmstudio=_lmstudio(settings, trees, table, between, found, remembered),
        watched=tuple(_watched(row, between, remembered.memories) for row in watched),
        sample=replace(now, remembered=replace(remembered, table=table)),
    )


def _sampled(rows: list[Known], read_at: float) -> Sample:
    return Sample(
        at=time.monotonic(),
        read_at=read_at,
        processes=processes.cpu_seconds(rows),
        machine=machine.times(),
    )


def _lmstudio(
    settings: Settings,
    trees: identity.Trees,
    table: Mapping[int, Known],
    between: Between,
    found: Home,
    remembered: Remembered,
) -> LMStudio:
    if settings.lmstudio.enabled is False:
        return LMStudio()
    running = lmstudio.instances(trees, table, between, found, remembered)
    return LMStudio(
        installed=found.exists or bool(running),
        instances=tuple(each for each in running if lmstudio.ours(each, found)),
        home=str(found.path) if found.exists else None,
        version=found.version,
        leftovers=lmstudio.leftovers(trees, remembered.identity),
        others=tuple(each for each in running if not lmstudio.ours(each, found)),
    )


def _watched(row: Known, between: Between, memories: Memories) -> Watched:
    memory = memories.of(row)
    return Watched(
        name=row.process.name,
        pid=row.process.pid,
        created_at=row.process.created_at,
        executable=row.process.executable,
        cpu_percent=between.percent(row.process.key),
        uss_bytes=memory.uss_bytes,
        swap_bytes=memory.swap_bytes,
        known_as=identity.known_as(row.process.name),
    )


def _with_api(seen: LMStudio, api: Api, found: Home, taken_at: float, previous: Snapshot | None) -> LMStudio:
    models = api.models_loaded
    if models is not None:
        models = tuple(_idle(model, seen, taken_at, previous) for model in models)
    return replace(seen, api=replace(api, models_loaded=models, jit_ttl_seconds=found.jit_ttl_seconds))


def _idle(model: LoadedModel, seen: LMStudio, taken_at: float, previous: Snapshot | None) -> LoadedModel:
    """The model with how long it has been idle: LM Studio's API does not tell, so it is counted here."""
    serving = [instance for instance in seen.instances if instance.serves_api]
    if not serving or any(instance.busy is None for instance in serving):
        return model
    if any(instance.busy or (instance.workers_cpu_percent or 0.0) >= ACTIVE for instance in serving):
        return replace(model, idle_seconds=0.0)
    return replace(model, idle_seconds=_carried(model, taken_at, previous))


def _carried(model: LoadedModel, taken_at: float, previous: Snapshot | None) -> float:
    if previous is None:
        return 0.0
    gap = taken_at - previous.taken_at
    earlier = {each.id: each.idle_seconds for each in previous.lmstudio.api.models_loaded or ()}
    if (idle := earlier.get(model.id)) is None or gap < 0 or (previous.sample is None and gap > GAP):
        return 0.0
    return round(idle + gap, 1)


def _sample(local: Local | None, look: containers.Look | None) -> Sample | None:
    if local is None:
        return None
    return replace(local.sample, containers=look.memory if look else None)


def _taken(done: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = done.get(name)
    return value if isinstance(value, kind) else None
