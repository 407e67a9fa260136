"""The effects that bring a service's container to what it should be, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from calm.desired.paths import COMPOSE_FILE, absolute, in_compose_directory
from calm.drift import secrets
from calm.drift.model import Change, Context, Effect
from calm.drift.running_values import wanted
from calm.drift.service_changes import PASSWORD, RENEWED, RUNNING, Side
from calm.drift.service_fields import Fields


def update(side: Side, changes: Iterable[Change]) -> Iterator[Effect]:
    """Puts the limits, the state and the running values right, in place."""
    paths = {change.path for change in changes}
    container = side.container
    if container["state"] == "paused":
        yield _container(container, "unpause")
    if limits := _limits(side.want, paths):
        yield _container(container, "update", **limits)
    if container["state"] in ("exited", "created"):
        yield _container(container, "start")
    if RENEWED in paths:
        yield _container(container, "restart")
    apart = {PASSWORD, RENEWED}
    running = tuple(sorted(path.removeprefix(RUNNING) for path in paths - apart if path.startswith(RUNNING)))
    yield awaited(container["name"], side.service.deadline)
    yield from _running(side.context, side.service.name, container["name"], running)
    if PASSWORD in paths:
        yield from _given_password(side)


def _given_password(side: Side) -> Iterator[Effect]:
    """The server gets the password of this host's file.

    It may be the file that has changed: redis reads one of its own, and like its health check sees that which
    lay there when it started.
    """
    name, container = side.service.name, side.container["name"]
    if name == "redis":
        yield {"do": "secret", "name": "redis_password", "length": secrets.LENGTH}
        yield _container(side.container, "restart")
        yield awaited(container, side.service.deadline)
    yield from proven(side.context, name, container)


def remake(side: Side, changes: Iterable[Change], *, project: str, in_the_way: bool) -> Iterator[Effect]:
    """A new container for the present one; ``in_the_way``: Compose does not know it as this service."""
    container = side.container
    if container["state"] == "paused":
        yield _container(container, "unpause")
    yield from _data_kept(side)
    if in_the_way:
        yield _container(container, "remove")
    running = tuple(sorted(one.path.removeprefix(RUNNING) for one in changes if one.path.startswith(RUNNING)))
    name = side.service.container_name or container["name"]
    yield _up(side.context, side.service.name, project, side.service.spec, recreate=True)
    yield awaited(name, side.service.deadline)
    yield from proven(side.context, side.service.name, name)
    if side.service.name == "postgres":
        yield from _running(side.context, "postgres", name, running)


def _data_kept(side: Side) -> Iterator[Effect]:
    """redis writes its data on the way out as it will look for it on the way in.

    One that starts with the log on does not read a snapshot, and the other way round.
    """
    redis, found = side.context.settings.docker.redis, side.context.state.get("running") or {}
    if side.service.name != "redis" or redis.persistence == "none":
        return
    if side.container["state"] not in ("running", "paused"):
        return
    want = {name: wanted(side.context.settings, "redis")[name].text for name in ("appendonly", "save")}
    known = found.get("redis") or {}
    have = known.get("parameters") or {}
    unasked = "does not exist" in str(known.get("error"))
    if unasked or (have and any(have.get(name) != text for name, text in want.items())):
        yield {"do": "redis_set", "container": side.container["name"], "parameters": want}


def make(
    context: Context, name: str, container: str, spec: Mapping[str, Any], *, project: str, deadline: float
) -> Iterator[Effect]:
    """The first container of a service."""
    yield _up(context, name, project, spec, recreate=False)
    yield awaited(container, deadline)
    yield from proven(context, name, container)


def added(side: Side, *, project: str) -> Iterator[Effect]:
    """The replicas that are missing; those that are there stay as they are."""
    yield _up(side.context, side.service.name, project, side.service.spec, recreate=False)
    yield awaited(side.container["name"], side.service.deadline)


def remove(container: Mapping[str, Any]) -> tuple[Effect, ...]:
    """Stops a container and takes it away; its volumes stay."""
    unpause = (_container(container, "unpause"),) if container["state"] == "paused" else ()
    return (*unpause, _container(container, "stop"), _container(container, "remove"))


def awaited(container: str, deadline: float) -> Effect:
    """Nobody goes on before this one is healthy."""
    return {"do": "wait_healthy", "container": container, "deadline_s": deadline}


def proven(context: Context, name: str, container: str) -> Iterator[Effect]:
    """The password on this host opens the server: an old volume may hold another one."""
    postgres = context.settings.docker.postgres
    if name == "postgres":
        who: Effect = {"container": container, "user": postgres.user, "database": postgres.database}
        yield {"do": "postgres_password", **who}
        yield {"do": "prove_login", **who}
    elif name == "redis":
        yield {"do": "prove_login", "container": container, "kind": "redis"}


def _container(container: Mapping[str, Any], action: str, **arguments: Any) -> Effect:
    return {
        "do": "container",
        "name": container["name"],
        "action": action,
        "expect_id": container["id"],
        **arguments,
    }


def _up(context: Context, name: str, project: str, spec: Mapping[str, Any], *, recreate: bool) -> Effect:
    built = "build" in spec and (context.state.get("images") or {}).get(spec["image"]) is None
    return {
        "do": "compose",
        "file": absolute(context, in_compose_directory(context.settings, COMPOSE_FILE)),
        "project": project,
        "services": [name],
        "image": spec.get("image"),
        "build": built,
        "recreate": recreate,
    }


def _limits(want: Fields, paths: set[str]) -> dict[str, Any]:
    """Memory and swap always go together; the engine refuses one without the other."""
    found: dict[str, Any] = {}
    if paths & {"memory", "memory.cgroup", "swap"}:
        found["memory"] = want["memory"]
        # Where none is declared, the engine's own default: as much swap as memory.
        found["memory_swap"] = want["memory"] + want.get("swap", want["memory"])
    if "memory_reserved" in paths:
        found["memory_reservation"] = want["memory_reserved"]
    if "cpus" in paths:
        found["nano_cpus"] = round(want["cpus"] * 1_000_000_000)
    if "pids" in paths:
        found["pids_limit"] = want["pids"]
    if "restart" in paths:
        name, _, most = want["restart"].partition(":")
        found |= {"restart": name, "restart_max": int(most or 0)}
    return found


def _running(context: Context, name: str, container: str, parameters: tuple[str, ...]) -> Iterator[Effect]:
    """redis is told the value; what postgres differs by are a role's own settings, which are taken away."""
    if not parameters:
        return
    if name == "redis":
        values = wanted(context.settings, name)
        changed = {one: values[one].text for one in parameters}
        yield {"do": "redis_set", "container": container, "parameters": changed}
    elif name == "postgres":
        yield {
            "do": "postgres_reset_role",
            "container": container,
            "user": context.settings.docker.postgres.user,
            "database": context.settings.docker.postgres.database,
            "parameters": list(parameters),
        }
