"""What `calm remove` takes away: all that calm put there, but no volume, no secret and no backup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from calm.desired import old_stack
from calm.drift import schedules
from calm.drift.model import Action, Change, Context, HostDrift, Json, Origin, Resource
from calm.drift.record import unreadable

LABEL = "calm.project"
MARKED = ("document:compose", "document:redis.conf")
"""Documents that may lie where a stack of the user's own had one; calm's begin with a mark."""

RESTORED = "what stood there before calm comes back, if anything did; a backup is kept"
CLEARED: dict[str, Json] = {"documents": {}, "services": {}, "schedules": {}, "agent": None, "settings": None}
"""The record of a host that calm has left; what it says of secrets and volumes stays."""


def removal(context: Context) -> HostDrift:
    """Schedules first, so that nothing heals what goes; then services, the agent and documents."""
    resources = (*_schedules(context), *_services(context), *_agent(context), *_documents(context))
    return HostDrift(resources=resources, left_out=(), notes=_kept(context), record=CLEARED)


def _schedules(context: Context) -> tuple[Resource, ...]:
    off = context.settings.schedules.model_copy(update={"backend": "none"})
    without = replace(context, settings=context.settings.model_copy(update={"schedules": off}))
    return schedules.compare(without).resources


def _services(context: Context) -> Iterator[Resource]:
    project = context.settings.docker.project
    for container in context.state.get("containers") or ():
        if container["labels"].get(LABEL) == project:
            name = container["service"] or container["name"]
            effects = tuple(
                {"do": "container", "name": container["name"], "action": verb, "expect_id": container["id"]}
                for verb in ("stop", "remove")
            )
            yield _gone(f"service:{name}", "service", effects, before=container["state"])


def _agent(context: Context) -> Iterator[Resource]:
    if (context.state.get("agent") or {}).get("release"):
        yield _gone("agent", "agent", ({"do": "agent_remove", "folder": "agent"},))


def _documents(context: Context) -> Iterator[Resource]:
    for identity, recorded in (context.record.get("documents") or {}).items():
        if identity in MARKED and recorded:
            effect = {"do": "restore", "path": recorded["path"], "mark": old_stack.MARK}
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


def _gone(
    identity: str, kind: str, effects: tuple[dict[str, Json], ...], *, before: Json = "there"
) -> Resource:
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
    )
