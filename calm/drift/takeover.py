"""Taking over a stack that somebody made by hand: what is refused, what is carried along, whose passwords.

This comes before the documents: the old Compose file is replaced only once all of it can be taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calm.desired import old_stack
from calm.desired.paths import COMPOSE_FILE, EXTRA_FILE, absolute, in_compose_directory
from calm.desired.stack import container_names
from calm.drift import engine
from calm.drift.model import (
    Action,
    Change,
    Context,
    Effect,
    Origin,
    Piece,
    Refusal,
    Resource,
)
from calm.drift.volumes import other_major

if TYPE_CHECKING:
    from calm.settings import Settings

ID = "takeover"

_ENVIRONMENT = {
    "postgres_password": ("postgres", ("POSTGRES_PASSWORD",)),
    "redis_password": ("redis", ("REDIS_PASSWORD", "REDISCLI_AUTH")),
    "jwt_secret": ("agent-api", ("JWT_SECRET", "JWT_SECRET_KEY", "SECRET_KEY")),
}


def request(settings: Settings) -> dict[str, Any]:
    """Ask for the file with the services that were carried along."""
    paths = old_stack.requested(settings)
    return {"documents": {name: {"path": path} for name, path in paths.items()}} if paths else {}


def compare(context: Context) -> Piece:
    """The file for the unknown services, or why the stack cannot be taken over; nothing once that is done."""
    if not old_stack.is_present(context):
        return Piece()
    refusal = _refusal(context)
    if refusal is not None:
        return Piece(resources=(Resource(id=ID, kind="document", refused=refusal),))
    extra = old_stack.extra(context)
    resources = (_extra(context, extra),) if extra else ()
    return Piece(resources=resources, notes=tuple(_notes(context)))


def sources(context: Context) -> Mapping[str, Effect]:
    """Where each secret stands that a running container was given: what ``take_secret`` needs, by name.

    Containers that calm has made read theirs from the host's files and are no source.
    """
    if old_stack.is_present(context) and engine.refusal(context) is not None:
        # Asked of containers that nobody sees now, this fails; made anew, they would lock people out.
        names = container_names(context.settings.docker.project)
        return {
            secret: {"container": names[service], "env": variables[0]}
            for secret, (service, variables) in _ENVIRONMENT.items()
        }
    found: dict[str, Effect] = {}
    for secret, (service, variables) in _ENVIRONMENT.items():
        container = old_stack.container(context, service)
        if container is None or not _is_of_old_stack(context, container):
            continue
        source = _source(container, variables, secret)
        if source:
            found[secret] = {"container": container["name"], **source}
    return found


def _is_of_old_stack(context: Context, container: Mapping[str, Any]) -> bool:
    """Neither calm's own nor a stranger's that merely has our name."""
    ours = old_stack.OUR_LABEL in (container.get("labels") or {})
    return not ours and container.get("project") == old_stack.project(context)


def other_database(context: Context, container: Mapping[str, Any]) -> Refusal | None:
    """A role or database that is not on the volume cannot be wished into it by another variable."""
    recorded = ((context.record.get("services") or {}).get("postgres") or {}).get("fields") or {}
    for variable, key in (("POSTGRES_USER", "user"), ("POSTGRES_DB", "database")):
        before = container["env"].get(variable)
        after = getattr(context.settings.docker.postgres, key)
        if isinstance(before, str) and before != after and recorded.get(f"environment.{variable}") != after:
            return Refusal(
                message=f"The database was made with the {key} {before}, and the settings say {after}.",
                hint=f'Set calm.docker.postgres.{key} to "{before}"; to rename it, do so in postgres first.',
            )
    return None


def _source(container: Mapping[str, Any], variables: tuple[str, ...], secret: str) -> dict[str, str]:
    words = " ".join([*container.get("entrypoint", ()), *container.get("cmd", ())])
    if secret == "redis_password" and "--requirepass" in words:
        return {"argument": "--requirepass"}
    env = container.get("env") or {}
    return next(({"env": name} for name in variables if name in env or f"{name}_FILE" in env), {})


def _refusal(context: Context) -> Refusal | None:
    directory, name = context.settings.docker.directory, old_stack.file_name(context)
    unusable = engine.refusal(context)
    if unusable is not None:
        return Refusal(
            message=f"The stack in {directory} cannot be taken over now. {unusable.message}",
            hint=unusable.hint,
        )
    if name != COMPOSE_FILE:
        return Refusal(
            message=f"The stack in {directory} has its file under the name {name}.",
            hint=f"Rename it to {COMPOSE_FILE}; two Compose files in one folder would hide each other.",
        )
    if old_stack.document(context) is None:
        return Refusal(
            message=f"{old_stack.path(context)} is no Compose file that can be read: it is not YAML, or it "
            "has no services.",
            hint="Correct it (docker compose config names the line), or move it away to begin anew.",
        )
    there = context.state["files"].get(old_stack.EXTRA, {}).get("status")
    if old_stack.unknown(context) and there not in ("absent", "file"):
        return Refusal(
            message=f"{EXTRA_FILE} in {directory} is no regular file.", hint="Move it away, then plan again."
        )
    return _unreadable_password(context) or _other_data(context)


def _unreadable_password(context: Context) -> Refusal | None:
    """New passwords would lock out whoever has the old ones."""
    services = (old_stack.document(context) or {}).get("services") or {}
    known = context.state["secrets"]["values"]
    for secret, service in (("postgres_password", "postgres"), ("redis_password", "redis")):
        there = secret in context.secrets or (known.get(secret) or {}).get("status") == "file"
        if service in services and not there and old_stack.container(context, service) is None:
            return Refusal(
                message=f"The service {service} of the stack in {context.settings.docker.directory} has no "
                "container, so its password cannot be taken over.",
                hint=f"Start the old stack once more (docker compose up -d {service}), or give "
                f"calm.secrets.{secret}.",
            )
    return None


def _other_data(context: Context) -> Refusal | None:
    container = old_stack.container(context, "postgres")
    refusal = None if container is None else other_database(context, container)
    return refusal or other_major(context)


def _extra(context: Context, content: str) -> Resource:
    """Unknown services, unchanged; their secrets are put in on the host and never leave it."""
    path = absolute(context, in_compose_directory(context.settings, EXTRA_FILE))
    entry = context.state["files"].get(old_stack.EXTRA) or {"status": "absent"}
    services = ", ".join(old_stack.unknown(context))
    resource = Resource(id=old_stack.EXTRA, kind="document")
    if entry["status"] == "file" and entry.get("content") == content:
        return resource
    return Resource(
        id=old_stack.EXTRA,
        kind="document",
        action=Action.CREATE if entry["status"] == "absent" else Action.UPDATE,
        origin=Origin.NEW,
        changes=(Change(path="services", before=None, after=services, origin=Origin.NEW),),
        effects=(
            {
                "do": "write",
                "path": path,
                "content": content,
                "mode": "0600",
                "expect": entry.get("sha256") or "absent",
                "backup": True,
                "unmask": True,
                "unmask_from": [old_stack.path(context)],
            },
        ),
        note=f"carried over unchanged: {services}",
    )


def _notes(context: Context) -> list[str]:
    project, directory = old_stack.project(context), context.settings.docker.directory
    notes = [f"the stack {project} in {directory} is taken over; its file is backed up first"]
    running = sorted(
        str(one.get("service"))
        for one in old_stack.containers(context)
        if one.get("service") in context.settings.docker.retired
    )
    if running:
        notes.append(f"stopped, since they are in docker.retired: {', '.join(running)}")
    return notes
