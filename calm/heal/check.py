"""``calm check``: does every part answer, really asked, and do the containers have room?"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calm.heal.arbiter import works
from calm.heal.view import is_ours, megabytes
from calm.health import engine
from calm.health.home import ANY_ADDRESS
from calm.health.model import Container, Endpoint, Snapshot
from calm.health.snapshot import take

if TYPE_CHECKING:
    from calm.settings import Settings

TIMEOUT = 5


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part: ``ok``, or ``says`` why not. ``latency_ms`` is how long the answer took, if there was one."""

    name: str
    ok: bool
    says: str
    latency_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "latency_ms": self.latency_ms, "says": self.says}


def check(settings: Settings, root: Path) -> tuple[Check, ...]:
    """Ask everything that this host should have. Only looks: nothing is started or loaded."""
    snapshot = take(settings)
    return (*_services(settings, root, snapshot), *_lmstudio(snapshot), *_containers(settings, snapshot))


def _services(settings: Settings, root: Path, snapshot: Snapshot) -> Iterator[Check]:
    docker = settings.docker
    if docker.enabled is False or (docker.enabled == "auto" and snapshot.docker.status == "absent"):
        return
    if not snapshot.docker.reachable:
        yield Check(
            name="docker", ok=False, says=snapshot.docker.error or "the Docker engine does not answer"
        )
        return
    yield _timed("postgres", lambda: _query(settings))
    yield _timed("redis", lambda: _ping(settings, root))
    for endpoint in snapshot.endpoints:
        if endpoint.name not in ("postgres", "redis", "lmstudio"):
            yield _from(endpoint)


def _lmstudio(snapshot: Snapshot) -> Iterator[Check]:
    if not snapshot.lmstudio.installed:
        return
    for endpoint in snapshot.endpoints:
        if endpoint.name == "lmstudio":
            models = snapshot.lmstudio.api.models_loaded
            said = "" if models is None else f", {len(models)} models loaded"
            answer = _from(endpoint)
            yield Check(name="lmstudio", ok=answer.ok, says=answer.says + said * answer.ok,
                        latency_ms=answer.latency_ms)  # fmt: skip


def _containers(settings: Settings, snapshot: Snapshot) -> Iterator[Check]:
    for each in snapshot.containers or ():
        if is_ours(each, settings) and each.service not in settings.docker.retired:
            trouble = _trouble(each, settings)
            yield Check(name=f"container:{each.name}", ok=trouble is None, says=trouble or _room(each))


def _trouble(container: Container, settings: Settings) -> str | None:
    """Why a container is not well, or short of room."""
    if not works(container.state, container.health):
        return f"it is {container.state}" + (f" and {container.health}" if container.health else "")
    rules = settings.healing.rules
    limit, used = container.memory_limit_bytes, container.memory_bytes
    if limit and used is not None and 100 * used / limit >= rules.container_near_limit.percent:
        return f"it uses {megabytes(used)} of {megabytes(limit)} MB"
    held_back = container.throttled_percent
    if held_back is not None and held_back >= rules.container_throttled.percent:
        return f"its limit of {container.cpus_limit} cpus holds it back in {held_back:.0f} % of the time"
    return None


def _room(container: Container) -> str:
    cpu = "?" if container.cpu_percent is None else f"{container.cpu_percent:.1f}"
    cpus = "no limit" if container.cpus_limit is None else f"{100 * container.cpus_limit:.0f}"
    used = "?" if container.memory_bytes is None else f"{megabytes(container.memory_bytes)}"
    limit = container.memory_limit_bytes
    of = "no limit" if limit is None else f"{megabytes(limit)}"
    return f"cpu {cpu} % of {cpus}, memory {used} MB of {of}"


def _from(endpoint: Endpoint) -> Check:
    return Check(
        name=endpoint.name,
        ok=bool(endpoint.ok),
        says=endpoint.error or f"answers at {endpoint.url}",
        latency_ms=endpoint.latency_ms,
    )


def _timed(name: str, ask: Callable[[], str | None]) -> Check:
    """``ask`` returns why it is not ok, or ``None``."""
    began = time.perf_counter()
    trouble = ask()
    latency = round(1000 * (time.perf_counter() - began), 2)
    return Check(
        name=name, ok=trouble is None, says=trouble or "answers", latency_ms=None if trouble else latency
    )


def _query(settings: Settings) -> str | None:
    """Really run a query. In the container itself, where the local socket asks for no password."""
    import requests
    from docker.errors import DockerException, NotFound

    postgres, name = settings.docker.postgres, f"{settings.docker.project}-postgres"
    argv = ["psql", "-XtA", "-U", postgres.user, "-d", postgres.database, "-c", "SELECT 1"]
    try:
        client = engine.connect(timeout=TIMEOUT)
        run = client.exec_create(name, argv)["Id"]
        said = client.exec_start(run).decode(errors="replace").strip()
    except NotFound:
        return f"there is no container {name}: calm apply makes it"
    except (DockerException, requests.RequestException, OSError) as error:
        return f"{getattr(error, 'explanation', None) or error}"[:200]
    return None if said == "1" else f"it answers a query with: {said[:200]}"


def _ping(settings: Settings, root: Path) -> str | None:
    """AUTH with the password of the secrets' folder, then PING."""
    redis, bind = settings.docker.redis, settings.docker.bind
    try:
        password = (root / "secrets" / "redis_password").read_text(encoding="utf-8").strip()
    except OSError:
        password = ""
    try:
        with socket.create_connection(
            (ANY_ADDRESS.get(bind, bind), redis.port), timeout=TIMEOUT
        ) as connection:
            if password:
                connection.sendall(_resp("AUTH", password))
                if not (said := connection.recv(256)).startswith(b"+OK"):
                    return f"it refuses the password: {_words(said)}"
            connection.sendall(_resp("PING"))
            said = connection.recv(256)
    except OSError as error:
        return f"no answer on port {redis.port}: {error}"
    if said.startswith(b"-NOAUTH"):
        return f"it wants a password, and {root / 'secrets' / 'redis_password'} cannot be read"
    return None if said.startswith(b"+PONG") else f"it answers: {_words(said)}"


def _resp(*words: str) -> bytes:
    """One command in redis' protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _words(said: bytes) -> str:
    return said.decode(errors="replace").strip().lstrip("-+")[:200] or "nothing"
