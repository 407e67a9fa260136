"""Snapshots, instances and containers with sensible values, for rules to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calm.heal.view import Trace, View, trace
from calm.health.model import (
    Api,
    Container,
    Docker,
    Instance,
    LMStudio,
    LoadedModel,
    Machine,
    Snapshot,
    Watched,
)
from calm.settings import Settings
from calm.settings.load import Layer, load

NOW = 1_770_000_000.0
MIB = 2**20


def settings(tree: dict[str, Any] | None = None, **healing: Any) -> Settings:
    data = {**(tree or {}), "healing": healing}
    return load([Layer(source="the test", data=data)], host="test")


def instance(pid: int = 100, **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "root_pid": pid,
        "created_at": NOW - 3600 + pid,
        "executable": "/opt/LM Studio/lm-studio",
        "processes": 9,
        "cpu_percent": 1.0,
        "uss_bytes": 300 * MIB,
        "swap_bytes": 0,
        "busy": False,
    }
    return Instance(**(values | changes))


def container(name: str = "agent-system-redis", **changes: Any) -> Container:
    values: dict[str, Any] = {
        "name": name,
        "service": name.rpartition("-")[2],
        "id": f"{name}-0123456789abcdef",
        "state": "running",
        "health": "healthy",
        "restarts": 0,
        "oom_killed": False,
        "cpu_percent": 1.0,
        "memory_bytes": 50 * MIB,
        "memory_limit_bytes": 512 * MIB,
        "cpus_limit": 0.5,
        "project": "agent-system",
        "owned": True,
        "created_at": NOW - 86_400,
        "started_at": NOW - 86_400,
        "restart_policy": "unless-stopped",
    }
    return Container(**(values | changes))


def model(name: str = "qwen", **changes: Any) -> LoadedModel:
    values: dict[str, Any] = {"id": name, "key": name.partition(":")[0], "size_bytes": 1000 * MIB}
    return LoadedModel(**(values | changes))


def snapshot(
    *instances: Instance,
    at: float = NOW,
    models: Sequence[LoadedModel] | None = (),
    containers: Sequence[Container] | None = (),
    watched: Sequence[Watched] = (),
    disk_percent: float = 50.0,
    **api: Any,
) -> Snapshot:
    loaded = None if models is None else tuple(models)
    return Snapshot(
        host="test",
        taken_at=at,
        machine=Machine(disk_percent=disk_percent, disk_free_bytes=1),
        lmstudio=LMStudio(
            installed=True,
            instances=tuple(instances),
            api=Api(**({"reachable": True, "port": 1234, "models_loaded": loaded} | api)),
        ),
        watched=tuple(watched),
        docker=Docker(reachable=True),
        containers=None if containers is None else tuple(containers),
    )


def view(*samples: Snapshot, made: Settings | None = None, **changes: Any) -> View:
    """What rules see: these samples, two seconds apart unless one is given, which then stands for five."""
    taken = list(samples) if len(samples) > 1 else list(samples) * 5
    times = [NOW - 2 * (len(taken) - 1 - index) for index in range(len(taken))]
    values: dict[str, Any] = {
        "settings": made or settings(),
        "samples": taken,
        "times": times,
        "now": NOW,
        "trail": traces(taken, times),
    }
    return View(**(values | changes))


def traces(samples: Sequence[Snapshot], times: Sequence[float]) -> list[Trace]:
    made = []
    for sample, at in zip(samples, times, strict=True):
        seen = trace(sample)
        made.append(Trace(at=at, memory=seen.memory, models=seen.models, restarts=seen.restarts))
    return made
