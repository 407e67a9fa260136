"""Secrets: given, taken over, or made once on the host, and then kept until a setting rotates them.

No value is ever compared: the probe sends a digest with this run's key, and a given value is put through
the same function here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from calm.desired import old_stack
from calm.drift.model import (
    Action,
    Change,
    Context,
    Effect,
    Json,
    Origin,
    Piece,
    Refusal,
    Resource,
    joint_origin,
)
from calm.onhost.masking import Masker
from calm.settings.secrets import GIVEN, MADE

if TYPE_CHECKING:
    from calm.settings import Settings

FOLDER_MODE = "0700"
"""The guard: whoever cannot enter the folder cannot read the files in it."""

FILE_MODE = "0444"
"""Compose mounts a secret with the mode it has, and redis reads it without privileges."""

LENGTH = 32
"""Random bytes of a secret that calm makes: 256 bits."""

_HEALTHY_SECONDS = 120
_NOTHING: Mapping[str, Json] = {"status": "absent"}

REDIS_AUTH = "redis_auth.conf"
"""The line for redis.conf that the effect writes beside the password of redis."""


def request(settings: Settings) -> dict[str, Any]:  # noqa: ARG001
    """Ask for a digest of every secret that there may be, so that one that is not wanted any more is seen."""
    return {"secrets": [*MADE, *GIVEN, REDIS_AUTH]}


def compare(context: Context) -> Piece:
    """A resource for each secret, the values never among its changes."""
    sources = _sources(context)
    wanted = _wanted(context)
    compared = [_compare(context, name, sources.get(name), first=name == wanted[0]) for name in wanted]
    removed = [_removed(context, name) for name in GIVEN if name not in wanted and _recorded(context, name)]
    return Piece(
        resources=(*compared, *removed),
        record={"secrets": {name: _record(context, name) for name in wanted}},
    )


def _wanted(context: Context) -> tuple[str, ...]:
    made = MADE if context.settings.docker.enabled is not False else ()
    return (*made, *(name for name in GIVEN if name in context.secrets))


def _sources(context: Context) -> Mapping[str, Effect]:
    from calm.drift import takeover

    return takeover.sources(context)


def _compare(context: Context, name: str, source: Effect | None, *, first: bool) -> Resource:
    refusal = _refusal(context, name)
    if refusal:
        return _resource(name, refused=refusal)
    found = _found(context, name)
    if found["status"] == "absent":
        return _new(context, name, source)
    if _differs(context, name) or _is_new_here(context, name):
        return _changed(context, name, _given_origin(context, name), {"value": context.secrets[name]})
    if _is_rotated(context, name):
        return _changed(context, name, Origin.SETTINGS, {"length": LENGTH, "rotate": True}, stamped=True)
    return _modes(context, name, found, first=first)


def _resource(name: str, **fields: Any) -> Resource:
    return Resource(id=f"secret:{name}", kind="secret", **fields)


def _refusal(context: Context, name: str) -> Refusal | None:
    folder, found = f"{context.state['root']['path']}/secrets", context.state["secrets"]
    user = context.state["host"].get("uid")
    if found.get("status") == "unreadable":
        message, hint = f"{folder} cannot be read as a folder", "Move it away, or give it back to its user"
    elif user and found.get("folder_uid") not in (None, user):
        message = f"{folder} belongs to another user (uid {found['folder_uid']})"
        hint = f"Give it to the user that calm logs in as (chown -R {user} {folder})"
    elif _found(context, name)["status"] == "other":
        message, hint = f"{folder}/{name} is no regular file", "Move it away"
    else:
        return None
    return Refusal(message=f"{message}.", hint=f"{hint}; then plan again.")


def _found(context: Context, name: str) -> Mapping[str, Json]:
    found: Mapping[str, Json] = context.state["secrets"]["values"].get(name) or _NOTHING
    return _NOTHING if found["status"] == "file" and found["bytes"] == 0 else found


def _new(context: Context, name: str, source: Effect | None) -> Resource:
    """Given, else taken from the container that uses it, else made."""
    origin = Origin.HOST if _recorded(context, name) else Origin.NEW
    if name not in context.secrets and source:
        taken = {"do": "take_secret", "name": name, **source}
        note = f"taken over from the container {source['container']}"
        return _resource(name, action=Action.CREATE, **_value(origin), effects=(taken,), note=note)
    value = {"value": context.secrets[name]} if name in context.secrets else {"length": LENGTH}
    return _changed(context, name, origin, value, action=Action.CREATE)


def _changed(
    context: Context,
    name: str,
    origin: Origin,
    value: Mapping[str, Json],
    *,
    action: Action = Action.UPDATE,
    stamped: bool = False,
) -> Resource:
    """The new value, then the server that knows the old one, then its consumers.

    A rotation is in the stamp of each consumer (``stamped``), which is recreated for it; else those that run
    are restarted, since a container sees the file that lay there when it started.
    """
    consumers = () if stamped else _consumers(context, name)
    effects = ({"do": "secret", "name": name, **value}, *_told(context, name), *_restarted(consumers))
    note = f"restarts {', '.join(consumers)}" if consumers else None
    return _resource(name, action=action, **_value(origin), effects=effects, note=note)


def _value(origin: Origin) -> dict[str, Any]:
    change = Change(path="value", before=None, after=None, sensitive=True, origin=origin)
    return {"changes": (change,), "origin": origin}


_CONSUMERS = {"redis_password": ("redis", "agent-api")}
_OTHERS_CONSUMER = ("agent-api",)


def _consumers(context: Context, name: str) -> tuple[str, ...]:
    """The running containers of ours that read this secret."""
    services = _CONSUMERS.get(name, _OTHERS_CONSUMER)
    found = (old_stack.container(context, service) for service in services)
    return tuple(one["name"] for one in found if one and one["state"] == "running" and _is_ours(one))


def _is_ours(container: Mapping[str, Json]) -> bool:
    return old_stack.OUR_LABEL in (container.get("labels") or {})


def _restarted(containers: tuple[str, ...]) -> Iterator[Effect]:
    for container in containers:
        yield {"do": "container", "name": container, "action": "restart"}
        yield {"do": "wait_healthy", "container": container, "deadline_s": _HEALTHY_SECONDS}


def _told(context: Context, name: str) -> Iterator[Effect]:
    """What the server that checks this secret is told; one that is made anew is told by its service."""
    if name == "postgres_password":
        yield from _postgres_told(context)
    elif name == "redis_password":
        yield from _redis_told(context)


def _postgres_told(context: Context) -> Iterator[Effect]:
    """The role keeps its password on the volume, so a container that stands still is started for this."""
    container = old_stack.container(context, "postgres")
    if container is None:
        return
    if container["state"] != "running":
        action = "unpause" if container["state"] == "paused" else "start"
        yield {"do": "container", "name": container["name"], "action": action}
        yield {"do": "wait_healthy", "container": container["name"], "deadline_s": _HEALTHY_SECONDS}
    postgres = context.settings.docker.postgres
    role = {"user": postgres.user, "database": postgres.database, "secret": "postgres_password"}
    yield {"do": "postgres_password", "container": container["name"], **role}


def _redis_told(context: Context) -> Iterator[Effect]:
    """redis reads its password when it starts; one that is not ours is replaced before that matters."""
    container = old_stack.container(context, "redis")
    if container is not None and container["state"] == "running" and _is_ours(container):
        parameters = {"requirepass": {"secret": "redis_password"}}
        yield {"do": "redis_set", "container": container["name"], "parameters": parameters}


def _differs(context: Context, name: str) -> bool:
    given = context.secrets.get(name)
    return given is not None and Masker(context.digest_key).digest(given) != _found(context, name)["digest"]


def _is_new_here(context: Context, name: str) -> bool:
    """Whether no apply has come to its end with this value: the file may have it, its users may not."""
    given, recorded = context.secrets.get(name), _recorded(context, name)
    return given is not None and bool(recorded) and not _is_recorded(recorded.get("given"), given)


def _given_origin(context: Context, name: str) -> Origin:
    recorded = _recorded(context, name)
    if not recorded:
        return Origin.NEW
    return Origin.HOST if _is_recorded(recorded.get("given"), context.secrets[name]) else Origin.SETTINGS


def _is_recorded(given: Mapping[str, str] | None, value: str) -> bool:
    """Whether the last apply was given this value: its digest is kept with a key of that apply."""
    return bool(given) and given is not None and Masker(given["key"]).digest(value) == given["digest"]


def _is_rotated(context: Context, name: str) -> bool:
    recorded = _recorded(context, name)
    return name not in context.secrets and bool(recorded) and _count(context, name) > recorded["rotation"]


def _count(context: Context, name: str) -> int:
    return dict[str, int](context.settings.secrets.rotate).get(name, 0)  # type: ignore[arg-type]


def _modes(context: Context, name: str, found: Mapping[str, Json], *, first: bool) -> Resource:
    """The rights of the file, and with the first secret those of the folder."""
    folder = context.state["secrets"].get("folder_mode")
    auth = _found(context, REDIS_AUTH) if name == "redis_password" else {"status": "file", "mode": FILE_MODE}
    changes = [
        Change(path=path, before=before, after=after, origin=Origin.HOST)
        for path, before, after in (
            ("folder_mode", folder if first else FOLDER_MODE, FOLDER_MODE),
            ("mode", found["mode"], FILE_MODE),
            (REDIS_AUTH, auth["status"], "file"),
            (f"{REDIS_AUTH} mode", auth.get("mode", FILE_MODE), FILE_MODE),
        )
        if before != after
    ]
    if not changes:
        return _resource(name)
    return _resource(
        name,
        action=Action.UPDATE,
        origin=joint_origin(tuple(change.origin for change in changes if change.origin)),
        changes=tuple(changes),
        effects=({"do": "secret", "name": name, "length": LENGTH},),
    )


def _removed(context: Context, name: str) -> Resource:
    if _found(context, name)["status"] == "absent":
        return _resource(name)
    path = f"{context.state['root']['path']}/secrets/{name}"
    return _resource(
        name,
        action=Action.REMOVE,
        **_value(Origin.SETTINGS),
        effects=({"do": "remove_file", "path": path, "expect": None, "backup": False},),
    )


def _recorded(context: Context, name: str) -> Mapping[str, Json]:
    return (context.record.get("secrets") or {}).get(name) or {}


def _record(context: Context, name: str) -> dict[str, Json]:
    recorded = _recorded(context, name)
    rotation = max(_count(context, name), recorded.get("rotation", 0))
    return {"rotation": rotation, "given": _given_record(context, name, recorded.get("given"))}


def _given_record(context: Context, name: str, recorded: Mapping[str, str] | None) -> Json:
    value = context.secrets.get(name)
    if value is None:
        return None
    if _is_recorded(recorded, value):
        return recorded
    return {"key": context.digest_key, "digest": Masker(context.digest_key).digest(value)}
