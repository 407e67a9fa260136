"""What this host has and lacks: each thing ok, a warning or a failure, with the command that mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calm.desired.engine import LEAST_COMPOSE, LEAST_ENGINE, START_INTERVAL_API, version
from calm.health import endpoints, home
from calm.health.containers import OWNED
from calm.onhost import schedules
from calm.onhost.docker_api import Engine
from calm.onhost.errors import EngineRefusalError, UnavailableError
from calm.startup.plan import compose_file

if TYPE_CHECKING:
    from calm.settings import Settings

_GIB = 2**30
_DISK_FAILURE, _DISK_WARNING = 1 * _GIB, 5 * _GIB
_CALL_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that was looked at; ``mend`` is the command that mends it, where there is one."""

    name: str
    level: Literal["ok", "warning", "failure"]
    says: str
    mend: str | None = None


def examine(settings: Settings, root: Path) -> tuple[Diagnosis, ...]:
    """Everything that is looked at. Only looks: nothing is started, written or loaded."""
    parts: Sequence[Callable[[], Iterator[Diagnosis]]] = (
        lambda: _docker(settings, root),
        lambda: _scheduler(settings),
        lambda: _lmstudio(settings),
        lambda: _root(settings, root),
        _clock,
    )
    return tuple(found for part in parts for found in part())


def to_json(found: Sequence[Diagnosis]) -> Mapping[str, Any]:
    """What ``calm doctor --json`` prints."""
    return {"schema": 1, "ok": healthy(found), "checks": [asdict(each) for each in found]}


def healthy(found: Sequence[Diagnosis]) -> bool:
    """Whether nothing is a failure; warnings do not count."""
    return all(each.level != "failure" for each in found)


def _ok(name: str, says: str) -> Diagnosis:
    return Diagnosis(name=name, level="ok", says=says)


def _warning(name: str, says: str, mend: str | None = None) -> Diagnosis:
    return Diagnosis(name=name, level="warning", says=says, mend=mend)


def _failure(name: str, says: str, mend: str | None = None) -> Diagnosis:
    return Diagnosis(name=name, level="failure", says=says, mend=mend)


# -- Docker ------------------------------------------------------------------------------------------------


def _docker(settings: Settings, root: Path) -> Iterator[Diagnosis]:
    if settings.docker.enabled is False:
        yield _ok("engine", "not wanted (docker.enabled is off)")
        return
    mine = {"label": [f"{OWNED}={settings.docker.project}"]}
    try:
        engine = Engine.found()
        info, known = engine.get("/info"), engine.get("/version")
        own = engine.get("/containers/json", all="1", filters=mine)
    except (UnavailableError, EngineRefusalError) as error:
        yield _unreachable(settings, error)
        return
    yield _engine(known)
    yield _compose()
    yield from _limits(info)
    yield _enough_memory(settings, info)
    yield _made(settings, root)
    yield from _ports(settings, own)


def _unreachable(settings: Settings, error: UnavailableError | EngineRefusalError) -> Diagnosis:
    status, says = (error.status, error.what) if isinstance(error, UnavailableError) else ("down", str(error))
    if status == "absent":
        level = _warning if settings.docker.enabled == "auto" else _failure
        return level("engine", says, "install Docker Engine: https://docs.docker.com/engine/install")
    if status == "denied":
        return _failure("rights", says, "sudo usermod -aG docker $USER, then log in again")
    return _failure("engine", says, "sudo systemctl start docker (or start Docker Desktop)")


def _engine(known: Mapping[str, Any]) -> Diagnosis:
    text = str(known.get("Version"))
    least = ".".join(map(str, LEAST_ENGINE))
    if version(text) < LEAST_ENGINE:
        says = f"Docker Engine {text}; calm needs {least} or newer"
        return _failure("engine", says, "upgrade Docker Engine")
    if version(str(known.get("ApiVersion"))) < START_INTERVAL_API:
        says = f"Docker Engine {text}: without start intervals (25 and newer) a start takes longer"
        return _warning("engine", says, "upgrade Docker Engine to 25 or newer")
    return _ok("engine", f"Docker Engine {text}")


def _compose() -> Diagnosis:
    text = _output(["docker", "compose", "version", "--short"])
    least = ".".join(map(str, LEAST_COMPOSE))
    mend = "install the package docker-compose-plugin (Debian: docker-compose)"
    if text is None:
        return _failure("compose", "there is no `docker compose`", mend)
    if version(text) < LEAST_COMPOSE:
        return _failure("compose", f"Docker Compose {text}; calm needs {least} or newer", mend)
    return _ok("compose", f"Docker Compose {text}")


def _limits(info: Mapping[str, Any]) -> Iterator[Diagnosis]:
    lacks = [
        name
        for name, key in (("memory", "MemoryLimit"), ("cpu", "CpuCfsQuota"), ("pids", "PidsLimit"))
        if info.get(key) is False
    ]
    cgroup = f"cgroup v{info.get('CgroupVersion', '?')}"
    if lacks:
        yield _failure("cgroups", f"{cgroup} without limits of {', '.join(lacks)}: limits do not hold",
                       "boot with cgroup_enable=memory, or use cgroup v2")  # fmt: skip
    elif info.get("SwapLimit") is False:
        says = f"{cgroup} without swap limits: a container may swap"
        yield _warning("cgroups", says, "boot with swapaccount=1")
    else:
        yield _ok("cgroups", f"{cgroup}; limits of memory, swap, cpu and pids hold")


def _enough_memory(settings: Settings, info: Mapping[str, Any]) -> Diagnosis:
    docker = settings.docker
    wanted = docker.postgres.memory + docker.redis.memory
    wanted += docker.agent_api.memory if docker.agent_api.enabled else 0
    has = int(info.get("MemTotal") or 0)
    says = f"the services may use {wanted / _GIB:.1f} GB of the engine's {has / _GIB:.1f} GB"
    if has and wanted > has:
        return _warning("memory", says, "lower docker.*.memory, or give Docker more memory")
    return _ok("memory", says)


def _made(settings: Settings, root: Path) -> Diagnosis:
    file = compose_file(settings, root)
    if file.is_file():
        return _ok("stack", f"its Compose file is {file}")
    return _warning("stack", f"there is no {file} yet", "calm apply")


def _ports(settings: Settings, own: Sequence[Mapping[str, Any]]) -> Iterator[Diagnosis]:
    docker = settings.docker
    ours = {port.get("PublicPort") for each in own for port in each.get("Ports") or ()}
    services = {"postgres": docker.postgres.port, "redis": docker.redis.port}
    services |= {"agent-api": docker.agent_api.port} if docker.agent_api.enabled else {}
    host = home.ANY_ADDRESS.get(docker.bind, docker.bind)
    for name, port in services.items():
        if port in ours:
            yield _ok("port", f"{port} ({name}) is published by the stack")
        elif _is_taken(host, port):
            says = f"{port}, which {name} wants, is taken by another program"
            yield _failure("port", says, f"ss -ltnp 'sport = :{port}' shows by whom; or set docker.*.port")
        else:
            yield _ok("port", f"{port} ({name}) is free")


def _is_taken(host: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


# -- the rest ----------------------------------------------------------------------------------------------


def _scheduler(settings: Settings) -> Iterator[Diagnosis]:
    if settings.schedules.backend == "none":
        yield _ok("scheduler", "not wanted (schedules.backend is none)")
        return
    state = schedules.read({"prefix": "calm-"})
    facts = state["backend_facts"]
    has = [name for name in ("systemd", "user_manager", "launchctl", "schtasks", "crontab") if facts[name]]
    if not has:
        says = "neither systemd nor cron is here: nothing runs by itself"
        yield _warning("scheduler", says, "install cron")
        return
    if has == ["crontab"] and facts["cron_running"] is False:
        yield _failure("scheduler", "cron is installed and does not run", "start cron (service cron start)")
        return
    yield _ok("scheduler", f"has {', '.join(has)}")
    yield from (_run_of(name, run) for name, run in sorted(state["runs"].items()))


def _run_of(name: str, run: Mapping[str, Any]) -> Diagnosis:
    if run["last_result"] in (None, "success"):
        return _ok("schedule", f"{name}: {_ago(run['last_run'])}")
    says = f"{name} failed {_ago(run['last_run'])} ({run['last_result']}, exit code {run['exit_status']})"
    return _warning("schedule", says, f"journalctl -u calm-{name}.service -n 20")


def _ago(moment: float | None) -> str:
    return "has not run yet" if moment is None else f"last ran {(time.time() - moment) / 60:.0f} min ago"


def _lmstudio(settings: Settings) -> Iterator[Diagnosis]:
    wanted = settings.lmstudio.enabled
    here = home.read(home.find(settings.lmstudio.home), default_port=settings.lmstudio.server.port)
    if wanted is False:
        yield _ok("lmstudio", "not wanted (lmstudio.enabled is off)")
        return
    if not here.exists:
        level = _failure if wanted is True else _warning
        yield level(
            "lmstudio", f"LM Studio is not installed ({here.path} is not its home)", "https://lmstudio.ai"
        )
        return
    yield _ok("lmstudio", f"LM Studio {here.version or 'of unknown version'} in {here.path}")
    point, api = endpoints.lmstudio(here.url or "")
    if not point.ok:
        says = f"its server does not answer at {here.url}: {point.error}"
        yield _warning("lmstudio", says, "calm lmstudio start")
    else:
        loaded = len(api.models_loaded or ())
        yield _ok("lmstudio", f"its server answers at {here.url}, {loaded} models loaded")


def _root(settings: Settings, root: Path) -> Iterator[Diagnosis]:
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        yield _failure("root", f"this user may not write to {there}", f"sudo chown $USER {there}")
    else:
        yield _ok("root", f"{root} {'is there' if there == root else 'can be made'}")
    free = shutil.disk_usage(there).free
    says = f"{free / _GIB:.1f} GB free on the disk of {there}"
    mend = "calm prune --dry-run, then calm prune"
    if free < _DISK_FAILURE:
        yield _failure("disk", says, mend)
    elif free < _DISK_WARNING:
        yield _warning("disk", says, mend)
    else:
        yield _ok("disk", says)
    if settings.agent.enabled and not (root / "agent" / "venv").exists():
        yield _warning("agent", f"the agent is not installed under {root}", "calm apply")


def _clock() -> Iterator[Diagnosis]:
    """Timers and tokens go wrong with it; whether it is kept right is known to systemd alone, or to macOS."""
    said = _output(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if said is None or sys.platform != "linux":
        yield _ok("clock", f"{now}; what keeps it right could not be asked")
    elif said.strip() == "yes":
        yield _ok("clock", f"{now}; synchronized")
    else:
        yield _warning("clock", f"{now}; not synchronized", "sudo timedatectl set-ntp true")


def _output(argv: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_CALL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
