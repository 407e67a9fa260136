"""Checks between values that are each fine by themselves: what cannot work, and what will disappoint."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from calm.settings import Settings
from calm.settings.docker import Service
from calm.settings.llm import LLM
from calm.settings.secrets import looks_secret
from calm.settings.sizing import (
    LEAST_WORK_MEM,
    REDIS_LEAST,
    postgres_least,
    postgres_most,
    redis_least,
    redis_most,
    work_mem,
)
from calm.settings.units import duration_text, size_text

RESERVED_CONNECTIONS = 3
"""Postgres keeps these for the superuser (superuser_reserved_connections)."""

PARALLEL_SLOTS = 4
"""Requests that LM Studio serves at once per model (its load field numParallelSessions, by default)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Values that cannot go together: their ``paths`` below ``calm``, the one to look at first in front."""

    paths: tuple[str, ...]
    message: str


def findings(settings: Settings) -> tuple[Finding, ...]:
    """Everything about these settings that cannot work."""
    checks = (_reservations, _redis, _postgres, _pools, _images, _ports, _fallbacks)
    return tuple(finding for check in checks for finding in check(settings))


def warnings(settings: Settings) -> tuple[str, ...]:
    """Sentences about what works but may not be what was meant."""
    checks = (_open_ports, _swap, _waiting, _slots, _rotation, _plain_secrets)
    return tuple(sentence for check in checks for sentence in check(settings))


def host_warnings(settings: Settings, *, cpus: float, memory_bytes: int) -> tuple[str, ...]:
    """Sentences about limits that are beyond what the host has."""
    services = _services(settings)
    out = [
        f"{name}: the limit of {service.cpus:g} cpus is beyond the host's {cpus:g}; {cpus:g} take effect"
        for name, service in services.items()
        if service.cpus > cpus
    ]
    whole = sum(service.memory for service in services.values())
    if whole > memory_bytes:
        out.append(f"the services' limits sum up to {_short(whole)}, and the host has {_short(memory_bytes)}")
    return tuple(out)


def attempt_seconds(llm: LLM) -> float:
    """The longest that one provider can keep a caller waiting: every attempt and every pause, in seconds."""
    pauses_ms = llm.retry_backoff_ms * ((1 << llm.max_retries) - 1)
    return llm.request_timeout * (llm.max_retries + 1) + pauses_ms / 1000


def worst_case_seconds(llm: LLM) -> float:
    """The longest that the whole chain of providers can keep a caller waiting, in seconds."""
    return attempt_seconds(llm) * (len(llm.fallbacks) + 1)


def _services(settings: Settings) -> dict[str, Service]:
    docker = settings.docker
    always: dict[str, Service] = {"postgres": docker.postgres, "redis": docker.redis}
    return always | ({"agent_api": docker.agent_api} if docker.agent_api.enabled else {})


def _reservations(settings: Settings) -> Iterator[Finding]:
    for name, service in _services(settings).items():
        if service.memory_reserved > service.memory:
            yield Finding(
                paths=(f"docker.{name}.memory_reserved", f"docker.{name}.memory"),
                message=f"{size_text(service.memory_reserved)} is more than the limit, "
                f"memory {size_text(service.memory)}",
            )


def _redis(settings: Settings) -> Iterator[Finding]:
    redis = settings.docker.redis
    most = redis_most(redis.memory, redis.persistence)
    if most < REDIS_LEAST:
        least = size_text(redis_least(REDIS_LEAST, redis.persistence))
        yield Finding(
            paths=("docker.redis.memory", "docker.redis.persistence"),
            message=f"{size_text(redis.memory)} leaves redis no room for data; raise it to {least}",
        )
    elif redis.maxmemory == 0:
        yield Finding(
            paths=("docker.redis.maxmemory",),
            message=f"0 means no bound to redis, and the limit would kill it; "
            f"set it to {size_text(most)} or None",
        )
    elif redis.maxmemory is not None and redis.maxmemory > most:
        yield Finding(
            paths=("docker.redis.maxmemory", "docker.redis.memory", "docker.redis.persistence"),
            message=_redis_killed(redis.maxmemory, redis.memory, redis.persistence, most),
        )


def _redis_killed(maxmemory: int, memory: int, persistence: str, most: int) -> str:
    why = {
        "none": "fragmentation and buffers come on top of maxmemory",
        "rdb": "a snapshot under write load holds the data twice",
        "aof": "a rewrite under write load holds the data twice",
    }[persistence]
    return (
        f"{size_text(maxmemory)} would get redis killed in its limit of {size_text(memory)} ({why}); "
        f"lower maxmemory to {size_text(most)}, "
        f"or raise memory to {size_text(redis_least(maxmemory, persistence))}"
    )


def _postgres(settings: Settings) -> Iterator[Finding]:
    postgres = settings.docker.postgres
    if work_mem(postgres.memory, postgres.max_connections) >= LEAST_WORK_MEM:
        return
    raised = f"raise memory to {size_text(postgres_least(postgres.max_connections))}"
    most = postgres_most(postgres.memory)
    lowered = f"lower max_connections to {most}, or " if most >= 5 else ""
    yield Finding(
        paths=("docker.postgres.memory", "docker.postgres.max_connections"),
        message=f"{size_text(postgres.memory)} cannot hold {postgres.max_connections} connections "
        f"that each sort; {lowered}{raised}",
    )


def _pools(settings: Settings) -> Iterator[Finding]:
    api, postgres = settings.docker.agent_api, settings.docker.postgres
    wanted, offered = api.database_pool_size * api.workers, postgres.max_connections - RESERVED_CONNECTIONS
    if api.enabled and wanted > offered:
        yield Finding(
            paths=(
                "docker.agent_api.database_pool_size",
                "docker.agent_api.workers",
                "docker.postgres.max_connections",
            ),
            message=f"{api.workers} x {api.database_pool_size} connections are {wanted}, and postgres has "
            f"{offered} of its {postgres.max_connections} to give ({RESERVED_CONNECTIONS} are the "
            f"superuser's); lower the pool or raise max_connections to {wanted + RESERVED_CONNECTIONS}",
        )


def _images(settings: Settings) -> Iterator[Finding]:
    api = settings.docker.agent_api
    if api.image is not None and api.build is not None:
        yield Finding(
            paths=("docker.agent_api.build", "docker.agent_api.image"),
            message="build and image exclude each other; keep the one that is meant",
        )


def _ports(settings: Settings) -> Iterator[Finding]:
    users: dict[int, list[str]] = defaultdict(list)
    for path, port in _bound_ports(settings):
        users[port].append(path)
    for port, paths in users.items():
        if len(paths) > 1:
            # The last one is the likelier mistake: our own services come first.
            others = ", ".join(f"calm.{path}" for path in paths[:-1])
            yield Finding(paths=tuple(reversed(paths)), message=f"port {port} is already used by {others}")


def _bound_ports(settings: Settings) -> Iterator[tuple[str, int]]:
    if settings.lmstudio.enabled:
        yield "lmstudio.server.port", settings.lmstudio.server.port
    if not settings.docker.enabled:
        return
    for name in _services(settings):
        yield f"docker.{name}.port", getattr(settings.docker, name).port
    for name, raw in settings.docker.services.items():
        yield from ((f"docker.services.{name}.ports", port) for port in _published(raw))


def _published(raw: Mapping[str, Any]) -> Iterator[int]:
    """The host's ports of a raw service, of Compose's short form and its long one; ranges are left out."""
    ports = raw.get("ports")
    for entry in ports if isinstance(ports, list) else []:
        port = str(entry.get("published") if isinstance(entry, Mapping) else _host_part(str(entry)))
        if port.isdecimal():
            yield int(port)


def _host_part(short: str) -> str:
    """``8080`` of ``127.0.0.1:8080:80/tcp``; empty where the host's port is left to Docker."""
    return short.split(":")[-2] if ":" in short else ""


def _fallbacks(settings: Settings) -> Iterator[Finding]:
    llm = settings.llm
    seen = {(llm.provider, llm.model, llm.endpoint)}
    for index, fallback in enumerate(llm.fallbacks):
        key = (fallback.provider, fallback.model, fallback.endpoint)
        if key in seen:
            yield Finding(
                paths=("llm.fallbacks",),
                message=f"entry {index + 1}, {fallback.provider}, was asked before it; "
                "who has failed once is not asked again",
            )
        seen.add(key)


def _open_ports(settings: Settings) -> Iterator[str]:
    for path, address in (
        ("docker.bind", settings.docker.bind),
        ("lmstudio.server.bind", settings.lmstudio.server.bind),
    ):
        if not ipaddress.ip_address(address).is_loopback:
            yield f"calm.{path}: {address} lets other machines reach these ports; 127.0.0.1 would not"


def _swap(settings: Settings) -> Iterator[str]:
    for name, service in _services(settings).items():
        if service.swap:
            swap = size_text(service.swap)
            yield f"calm.docker.{name}.swap: {swap} of swap hide a limit that is too low; 0 is calmer"


def _waiting(settings: Settings) -> Iterator[str]:
    llm = settings.llm
    one, whole = attempt_seconds(llm), worst_case_seconds(llm)
    attempts = llm.max_retries + 1
    text = (
        f"calm.llm: a caller waits up to {duration_text(one)} for one provider "
        f"({attempts} x {duration_text(llm.request_timeout)} and the pauses between)"
    )
    yield (
        f"{text}, up to {duration_text(whole)} with {len(llm.fallbacks)} fallbacks" if llm.fallbacks else text
    )


def _slots(settings: Settings) -> Iterator[str]:
    pool = settings.llm.connection_pool_size
    if pool > PARALLEL_SLOTS:
        yield (
            f"calm.llm.connection_pool_size: {pool} requests at once, and LM Studio serves {PARALLEL_SLOTS} "
            "per model unless told otherwise; the rest wait in its queue while their timeout runs"
        )


def _rotation(settings: Settings) -> Iterator[str]:
    given = settings.secrets.given()
    for name in settings.secrets.rotate:
        if name in given:
            yield f"calm.secrets.rotate.{name}: the inventory gives it; change it there, this has no effect"


def _plain_secrets(settings: Settings) -> Iterator[str]:
    for key in settings.docker.agent_api.environment:
        if looks_secret(key):
            yield (
                f"calm.docker.agent_api.environment.{key}: looks like a secret; "
                "whoever can use Docker on the host can read it there"
            )


def _short(size: int) -> str:
    return f"{size / 1024**3:.1f}G"
