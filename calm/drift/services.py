"""The drift of the stack's services: updated in place where Docker can, made anew where it has to be.

An unhealthy container is no drift; the agent heals it. But apply ends each service it touches by waiting
for its health.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calm.desired import build, old_stack
from calm.desired.services import Service
from calm.desired.stack import PYTHON_IMAGE, container_names
from calm.drift import engine, service_changes, service_effects
from calm.drift.model import (
    Action,
    Change,
    Context,
    Json,
    LeftOut,
    Origin,
    Piece,
    Refusal,
    Resource,
    joint_origin,
)
from calm.drift.ports import moved_note, open_note, taken_port
from calm.drift.running_values import wanted
from calm.drift.service_changes import Side, kept_fields
from calm.drift.service_fields import Fields, declared, replicas
from calm.drift.takeover import other_database
from calm.settings.docker import BUILT_IN

if TYPE_CHECKING:
    from calm.settings import Settings

NUMBER = "com.docker.compose.container-number"
ENGINE = "docker"
"""The id of the resource that stands for an engine which cannot be used."""


def request(settings: Settings) -> dict[str, Any]:
    """Ask for the containers of the stack, its images and ports, and what redis and postgres run with."""
    docker = settings.docker
    names = container_names(docker.project)
    own = [f"{docker.project}-{name}" for name in docker.services if name not in BUILT_IN]
    part = {
        "enabled": docker.enabled,
        "project": docker.project,
        "names": [*names.values(), *own],
        "directory": docker.directory,
        "images": _images(settings),
        "ports": _ports(settings),
        "running": {
            "redis": {"container": names["redis"], "parameters": list(wanted(settings, "redis"))},
            "postgres": {
                "container": names["postgres"],
                "user": docker.postgres.user,
                "database": docker.postgres.database,
                "parameters": list(wanted(settings, "postgres")),
            },
        },
    }
    return {"docker": part}


def compare(context: Context) -> Piece:
    """A resource for each service, and one for each container that must not be there any more."""
    recorded = {key: context.record[key] for key in ("services", "docker") if key in context.record}
    reason = engine.left_out(context)
    if reason is not None:
        return Piece(left_out=_all_left_out(context, reason), record=recorded)
    refusal = engine.refusal(context)
    if refusal is not None:
        resource = Resource(id=ENGINE, kind="service", refused=refusal)
        left = _all_left_out(context, "the Docker Engine cannot be used")
        return Piece(resources=(resource,), left_out=left, record=recorded)
    return _compare(context)


def _compare(context: Context) -> Piece:
    from calm.desired.services import services
    from calm.settings.checks import host_warnings

    stack = _Stack.of(context)
    every = services(context)
    found = {name: _Found.of(context, stack, service) for name, service in every.items()}
    used = {one["id"] for each in found.values() for one in each.all}
    unwanted = tuple(_unwanted(context, wanted=every, used=used))
    leaving = frozenset(effect["name"] for resource in unwanted for effect in resource.effects)
    resources = [_service(context, stack, service, found[name], leaving) for name, service in every.items()]
    docker = context.state["docker"]
    records = {name: _record(stack, service, found[name]) for name, service in every.items()}
    return Piece(
        # What must go is stopped first: it may hold a port that another one needs.
        resources=(*unwanted, *resources),
        notes=(
            *host_warnings(context.settings, cpus=docker["cpus"], memory_bytes=docker["memory_bytes"]),
            *_shown_secrets(context),
        ),
        record={"services": records, "docker": old_stack.record(context)},
    )


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """Docker's names for what the Compose file calls by keys."""

    project: str
    sources: Mapping[str, str]
    networks: Mapping[str, str]

    @classmethod
    def of(cls, context: Context) -> _Stack:
        from calm.desired.stack import stack

        values = stack(context)
        names = {name: f"{values.project}_{name}" for name in values.networks}
        return cls(
            project=values.project,
            sources={**values.named_volumes, **values.secret_files},
            networks=names | {old_stack.NETWORK: values.network.name},
        )

    def fields(self, service: Service) -> Fields:
        return declared(service.spec, sources=self.sources, networks=self.networks)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The containers of one service.

    ``container`` is the one to compare with, ``more`` are further replicas that are declared, ``missing`` is
    how many of them there are not; ``others`` have to go: left behind by Compose, or added by hand.
    """

    container: Mapping[str, Any] | None
    more: tuple[Mapping[str, Any], ...] = ()
    others: tuple[Mapping[str, Any], ...] = ()
    missing: int = 0

    @classmethod
    def of(cls, context: Context, stack: _Stack, service: Service) -> _Found:
        containers = context.state.get("containers") or ()
        named = [one for one in containers if one["name"] == service.container_name]
        key = (stack.project, service.name)
        ours = [one for one in containers if (one.get("project"), one.get("service")) == key]
        every = list({one["id"]: one for one in (*named, *sorted(ours, key=_number))}.values())
        count = 1 if service.container_name is not None else replicas(service.spec) or max(len(every), 1)
        return cls(
            container=every[0] if every else None,
            more=tuple(every[1:count]),
            others=tuple(every[count:]),
            missing=max(count - len(every), 0),
        )

    @property
    def all(self) -> tuple[Mapping[str, Any], ...]:
        return (self.container, *self.more, *self.others) if self.container else ()


def _number(container: Mapping[str, Any]) -> int:
    """Compose's number of a replica: the first are kept."""
    number = (container.get("labels") or {}).get(NUMBER)
    return int(str(number)) if str(number).isdigit() else 0


def _service(
    context: Context, stack: _Stack, service: Service, found: _Found, leaving: frozenset[str]
) -> Resource:
    resource = Resource(id=f"service:{service.name}", kind="service", needs=service.needs)
    entry = (context.record.get("services") or {}).get(service.name)
    if found.container is None:
        resource = _created(context, stack, service, resource, entry)
    else:
        refusal = _stranger(context, stack, found.container, entry)
        if refusal is None and service.name == "postgres":
            refusal = other_database(context, found.container)
        if refusal is not None:
            return replace(resource, refused=refusal)
        side = Side(
            context=context,
            service=service,
            container=found.container,
            want=stack.fields(service),
            entry=entry,
        )
        resource = _changed(stack, side, found, resource)
    if resource.action in (Action.CREATE, Action.RECREATE) or _starts(resource):
        leaving |= {one["name"] for one in found.all}
        return replace(resource, refused=taken_port(context, service, found.container, leaving))
    return resource


def _starts(resource: Resource) -> bool:
    return any(change.path == "state" and change.before != "paused" for change in resource.changes)


def _created(
    context: Context, stack: _Stack, service: Service, resource: Resource, entry: Mapping[str, Json] | None
) -> Resource:
    origin = Origin.NEW if entry is None else Origin.HOST
    container = service.container_name or f"{stack.project}-{service.name}-1"
    effects = service_effects.make(
        context, service.name, container, service.spec, project=stack.project, deadline=service.deadline
    )
    change = Change(path="state", before="absent", after="running", origin=origin)
    return replace(
        resource,
        action=Action.CREATE,
        origin=origin,
        changes=(change,),
        effects=tuple(effects),
        note=open_note(stack.fields(service).get("ports") or ()),
    )


def _changed(stack: _Stack, side: Side, found: _Found, resource: Resource) -> Resource:
    """In place if that is enough; a new container if anything asks for one."""
    fixed = (*service_changes.fixed(side), *_dead(side), *_replicas(side, found))
    counted = _count(side, found)
    if side.service.container_name is not None:
        fixed += counted  # one that Compose left behind half way
    in_place = (*service_changes.state(side), *service_changes.live(side), *counted)
    in_place += service_changes.running(side, stays=bool(fixed))
    in_place += () if fixed else service_changes.renewed(side)
    changes = tuple({change.path: change for change in (*fixed, *in_place)}.values())
    if not changes:
        return resource
    removed = [effect for one in found.others for effect in service_effects.remove(one)]
    if fixed:
        effects = service_effects.remake(
            side, changes, project=stack.project, in_the_way=_in_the_way(stack, side)
        )
        action, carried = Action.RECREATE, (*removed, *effects)
    else:
        added = service_effects.added(side, project=stack.project) if found.missing else ()
        action, carried = Action.UPDATE, (*removed, *service_effects.update(side, changes), *added)
    return replace(
        resource,
        action=action,
        origin=joint_origin(tuple(change.origin for change in changes if change.origin)),
        changes=changes,
        effects=carried,
        note=moved_note(changes),
    )


def _count(side: Side, found: _Found) -> tuple[Change, ...]:
    """How many containers the service has, if that is not what is declared."""
    before = len(found.all)
    after = before - len(found.others) + found.missing
    if before == after:
        return ()
    origin = Origin.NEW if side.entry is None else Origin.HOST
    return (Change(path="containers", before=before, after=after, origin=origin),)


def _replicas(side: Side, found: _Found) -> Iterator[Change]:
    """What differs in the further replicas; Compose makes all of a service's containers anew together."""
    for one in found.more:
        other = replace(side, container=one)
        for change in (
            *service_changes.state(other),
            *service_changes.live(other),
            *service_changes.fixed(other),
        ):
            yield replace(change, path=f"{one['name']}.{change.path}")


def _dead(side: Side) -> tuple[Change, ...]:
    """Docker could not take it away whole; it cannot be started any more."""
    return service_changes.state(side) if side.container["state"] in ("dead", "removing") else ()


def _in_the_way(stack: _Stack, side: Side) -> bool:
    """Compose makes a container anew only if it knows it as this service of this project."""
    return (side.container.get("project"), side.container.get("service")) != (
        stack.project,
        side.service.name,
    )


def _stranger(
    context: Context, stack: _Stack, container: Mapping[str, Any], entry: Mapping[str, Json] | None
) -> Refusal | None:
    """A container of our name that is neither ours nor of the stack that is taken over."""
    project = context.settings.docker.project
    ours = (container.get("labels") or {}).get(old_stack.OUR_LABEL) == project
    recorded = (entry or {}).get("container") == container["name"]
    if ours or recorded or container.get("project") == stack.project:
        return None
    folder = (container.get("labels") or {}).get(old_stack.WORKING_FOLDER)
    other = container.get("project")
    whose = f"belongs to the Compose project {other}" if other else "was not made by calm"
    take_over = f"set calm.docker.directory to {folder} to take that stack over, " if folder else ""
    return Refusal(
        message=f"A container named {container['name']} is there already, and it {whose}.",
        hint=f"To go on, {take_over}rename it (docker rename {container['name']} {container['name']}-old), "
        "or choose another calm.docker.project.",
    )


def _unwanted(context: Context, *, wanted: Mapping[str, Service], used: set[str]) -> Iterator[Resource]:
    """Containers of services that earlier settings declared, and of retired ones."""
    project, retired = old_stack.project(context), context.settings.docker.retired
    recorded = {
        entry.get("container"): name for name, entry in (context.record.get("services") or {}).items()
    }
    going: dict[str, list[Mapping[str, Any]]] = {}
    known: set[str] = set()
    for container in context.state.get("containers") or ():
        labelled = (container.get("labels") or {}).get(old_stack.OUR_LABEL) == context.settings.docker.project
        is_retired = container.get("project") == project and container.get("service") in retired
        ours = labelled or container["name"] in recorded
        name = str(recorded.get(container["name"]) or container.get("service") or container["name"])
        if container["id"] in used or name in wanted or not (ours or is_retired):
            continue
        going.setdefault(name, []).append(container)
        known |= {name} if ours else set()
    for name, containers in going.items():
        yield _gone(name, containers, retired=name not in known)


def _gone(name: str, containers: list[Mapping[str, Any]], *, retired: bool) -> Resource:
    change = Change(path="state", before=containers[0]["state"], after="absent", origin=Origin.SETTINGS)
    return Resource(
        id=f"service:{name}",
        kind="service",
        action=Action.REMOVE,
        origin=Origin.SETTINGS,
        changes=(change,),
        effects=tuple(effect for one in containers for effect in service_effects.remove(one)),
        needs=("takeover",),
        note="it is in docker.retired; declare it in docker.services to keep it" if retired else None,
    )


def _record(stack: _Stack, service: Service, found: _Found) -> dict[str, Json]:
    container = service.container_name or (found.container or {}).get("name")
    return {
        "stamp": service.stamp,
        "fields": kept_fields(stack.fields(service)),
        "container": container or f"{stack.project}-{service.name}-1",
    }


def _shown_secrets(context: Context) -> Iterator[str]:
    api = context.settings.docker.agent_api
    if api.enabled and api.secrets_as == "env":
        yield (
            "agent-api gets its secrets in environment variables (docker.agent_api.secrets_as): everybody "
            "who may use Docker on this host can read them with docker inspect"
        )


def _all_left_out(context: Context, reason: str) -> tuple[LeftOut, ...]:
    api = ("agent-api",) if context.settings.docker.agent_api.enabled else ()
    own = (name for name in context.settings.docker.services if name not in BUILT_IN)
    return tuple(LeftOut(id=f"service:{name}", reason=reason) for name in ("postgres", "redis", *api, *own))


def _images(settings: Settings) -> list[str]:
    docker = settings.docker
    raw = [spec.get("image") for spec in docker.services.values()]
    files = build.context(settings)
    api = docker.agent_api.image or (build.tag(docker.project, files) if files else None)
    found = [docker.postgres.image, docker.redis.image, api, PYTHON_IMAGE, *raw]
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _ports(settings: Settings) -> list[int]:
    from calm.drift.ports import declared_ports

    docker = settings.docker
    api = [docker.agent_api.port] if docker.agent_api.enabled else []
    raw = [port for spec in docker.services.values() for port in declared_ports(spec)]
    return list(dict.fromkeys([docker.postgres.port, docker.redis.port, *api, *raw]))
