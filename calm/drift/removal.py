"""What `calm remove` takes away: all that calm put there, but no volume, no secret and no backup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from calm.desired import old_stack
from calm.drift import schedules, service_effects
from calm.drift.model import Action, Change, Context, Effect, HostDrift, Json, Origin, Resource
from calm.drift.record import unreadable

LABEL = "calm.project"
COMPOSE_LABEL = "com.docker.compose.project"
MARKED = ("document:compose", "document:redis.conf")
"""Documents that may lie where a stack of the user's own had one; calm's begin with a mark."""

RESTORED = "what stood there before calm comes back, if anything did; a backup is kept"
CLEARED: dict[str, Json] = {"documents": {}, "services": {}, "schedules": {}, "agent": None, "settings": None}
"""The record of a host that calm has left; what it says of secrets and volumes stays."""


def removal(context: Context) -> HostDrift:
    """Schedules first, so that nothing heals what goes; then services, their network, agent, documents."""
    services = tuple(_services(context))
    resources = (
        *_schedules(context),
        *services,
        *_networks(context, needs=tuple(one.id for one in services)),
        *_agent(context),
        *_documents(context),
    )
    return HostDrift(resources=resources, left_out=(), notes=_kept(context), record=CLEARED)


def _schedules(context: Context) -> tuple[Resource, ...]:
    off = context.settings.schedules.model_copy(update={"backend": "none"})
    without = replace(context, settings=context.settings.model_copy(update={"schedules": off}))
    return schedules.compare(without).resources


def _services(context: Context) -> Iterator[Resource]:
    for service, containers in groupby(sorted(_ours(context), key=_service_name), key=_service_name):
        found = list(containers)
        effects = tuple(effect for one in found for effect in service_effects.remove(one))
        yield _gone(f"service:{service}", "service", effects, before=found[0]["state"])


def _service_name(container: Mapping[str, Any]) -> str:
    return str(container["service"] or container["name"])


def _ours(context: Context) -> Iterator[Mapping[str, Any]]:
    project = context.settings.docker.project
    return (one for one in context.state.get("containers") or () if one["labels"].get(LABEL) == project)


def _networks(context: Context, *, needs: tuple[str, ...]) -> Iterator[Resource]:
    """What calm or Compose made for the stack, and nobody else is on; a taken-over stack keeps its own."""
    for name, network, others in _made_networks(context):
        if not others:
            effect = {"do": "network_remove", "name": name, "expect_id": network["id"]}
            yield replace(_gone(f"network:{name}", "network", (effect,)), needs=needs)


def _made_networks(context: Context) -> Iterator[tuple[str, Mapping[str, Any], list[str]]]:
    """Each network that was made for the stack, with the containers on it that are not ours."""
    docker, leaving = context.settings.docker, {one["name"] for one in _ours(context)}
    keys = (LABEL,) if docker.directory else (LABEL, COMPOSE_LABEL)
    for name, network in sorted((context.state.get("networks") or {}).items()):
        if docker.project in (network["labels"].get(key) for key in keys):
            yield name, network, [one for one in network["containers"] if one not in leaving]


def _agent(context: Context) -> Iterator[Resource]:
    if (context.state.get("agent") or {}).get("release"):
        yield _gone("agent", "agent", ({"do": "agent_remove", "folder": "agent"},))


def _documents(context: Context) -> Iterator[Resource]:
    for identity, recorded in (context.record.get("documents") or {}).items():
        if identity in MARKED and recorded:
            effect: Effect = {"do": "restore", "path": recorded["path"], "mark": old_stack.MARK}
            yield replace(_gone(identity, "document", (effect,)), note=RESTORED)
        elif recorded and "sha256" in recorded:
            expect = (context.state["files"].get(identity) or {}).get("sha256") or recorded["sha256"]
            effect = {"do": "remove_file", "path": recorded["path"], "expect": expect}
            yield _gone(identity, "document", (effect,))
        elif recorded:
            yield replace(
                _gone(identity, "document", ({"do": "restore", "path": recorded["path"]},)),
                action=Action.UPDATE,
                note=RESTORED,
            )


def _gone(identity: str, kind: str, effects: tuple[Effect, ...], *, before: Json = "there") -> Resource:
    change = Change(path="state", before=before, after="absent", origin=Origin.SETTINGS)
    return Resource(
        id=identity,
        kind=kind,
        action=Action.REMOVE,
        origin=Origin.SETTINGS,
        changes=(change,),
        effects=effects,
    )


def _kept(context: Context) -> tuple[str, ...]:
    root = context.state["root"]["path"]
    return (
        *unreadable(context.state),
        f"volumes stay, and so do {root}/secrets, {root}/backups and {root}/journal.db",
        *(
            f"the network {name} stays, since others are on it: {', '.join(others)}"
            for name, _, others in _made_networks(context)
            if others
        ),
        *_kept_extra(context),
    )


def _kept_extra(context: Context) -> Iterator[str]:
    """The carried services stand in the file that comes back, too, but here they may have been changed."""
    entry = context.state["files"].get(old_stack.EXTRA) or {}
    if entry.get("status") == "file":
        yield (
            f"{entry['path']} stays, since it is yours: the services that were carried over. The Compose "
            "file that comes back has them as they were; remove this one if you have changed nothing in it"
        )
