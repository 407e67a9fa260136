"""The drift of volumes: made once, with our label, found where the data is. None is ever removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calm.desired import volumes as desired
from calm.desired.old_stack import OUR_LABEL
from calm.desired.volumes import Source
from calm.drift import engine
from calm.drift.model import (
    Action,
    Change,
    Context,
    Effect,
    Json,
    LeftOut,
    Origin,
    Piece,
    Refusal,
    Resource,
)

if TYPE_CHECKING:
    from calm.settings import Settings


def request(settings: Settings) -> dict[str, Any]:
    """Ask for the volumes in use, and for those that a stack in ``docker.directory`` may have left."""
    return {"docker": {"volumes": [name for names in _candidates(settings).values() for name in names]}}


def compare(context: Context) -> Piece:
    """A resource for each named volume; a folder that a stack brought along is left as it is."""
    recorded = {"volumes": context.record.get("volumes") or {}}
    reason = engine.left_out(context)
    if reason is None and engine.refusal(context) is not None:
        reason = "the Docker Engine cannot be used"
    sources = [desired.source(context, service) for service in desired.TARGETS]
    if reason is not None:
        left = tuple(
            LeftOut(id=f"volume:{source.name}", reason=reason) for source in sources if not source.folder
        )
        return Piece(left_out=left, record=recorded)
    return Piece(
        resources=tuple(_volume(context, source) for source in sources if source.folder is None),
        record={"volumes": {source.name: _record(source) for source in sources}},
    )


def _volume(context: Context, source: Source) -> Resource:
    resource = Resource(id=f"volume:{source.name}", kind="volume", needs=("takeover",))
    found = (context.state.get("volumes") or {}).get(source.name) or {}
    refusal = other_major(context) if source.service == "postgres" else None
    if found.get("exists"):
        return resource if refusal is None else _refused(resource, refusal)
    refusal = _beside_old_data(context, source)
    if refusal is not None:
        return _refused(resource, refusal)
    origin = Origin.HOST if source.name in (context.record.get("volumes") or {}) else Origin.NEW
    return Resource(
        id=resource.id,
        kind="volume",
        needs=resource.needs,
        action=Action.CREATE,
        origin=origin,
        changes=(Change(path="exists", before=False, after=True, origin=origin),),
        effects=(_made(context, source),),
        note="it was here when calm last applied; what is made now is empty"
        if origin is Origin.HOST
        else None,
    )


def _refused(resource: Resource, refusal: Refusal) -> Resource:
    return Resource(id=resource.id, kind="volume", needs=resource.needs, refused=refusal)


def _made(context: Context, source: Source) -> Effect:
    return {"do": "volume", "name": source.name, "labels": {OUR_LABEL: context.settings.docker.project}}


def other_major(context: Context) -> Refusal | None:
    """postgres does not start on the files of another major version, and does not convert them."""
    source, image = desired.source(context, "postgres"), context.settings.docker.postgres.image
    found = (context.state.get("volumes") or {}).get(source.name) or {}
    wanted, written = desired.image_major(image), found.get("pg_version")
    if None in (wanted, written) or str(written).split(".")[0] == wanted:
        return None
    return Refusal(
        message=f"The volume {source.name} was written by postgres {written}, and {image} cannot read that.",
        hint=f'Set calm.docker.postgres.image to a {written}.x image such as "postgres:{written}-alpine", or '
        f"dump the data with {written} and load it with {wanted}. Nothing was stopped.",
    )


def _beside_old_data(context: Context, source: Source) -> Refusal | None:
    """A new, empty volume next to the one with the data would look like a loss of everything."""
    others = _existing(context, source)
    if not others:
        return None
    return Refusal(
        message=f"A new, empty volume {source.name} would be made beside {others[0]}, which may hold data.",
        hint=f'Set calm.docker.volumes.{source.service} to "{others[0]}" to keep that data, or make '
        f"{source.name} yourself (docker volume create {source.name}) to begin anew.",
    )


def _existing(context: Context, source: Source) -> list[str]:
    found = context.state.get("volumes") or {}
    candidates = _candidates(context.settings)[source.service]
    mounted = _mounted(context, source)
    return [name for name in dict.fromkeys([*mounted, *candidates]) if found.get(name, {}).get("exists")]


def _mounted(context: Context, source: Source) -> list[str]:
    """The volume that the service's present container keeps its data on."""
    from calm.desired.old_stack import container

    mounts = (container(context, source.service) or {}).get("mounts") or ()
    target = desired.TARGETS[source.service]
    return [one["name"] for one in mounts if one["destination"].rstrip("/") == target and one.get("name")]


def _candidates(settings: Settings) -> dict[str, list[str]]:
    """The names under which the data may lie already, by service."""
    docker = settings.docker
    folder = (docker.directory or "").rstrip("/").rpartition("/")[2].lower()
    projects = dict.fromkeys(name for name in (docker.project, folder) if name)
    return {
        service: [
            *([named] if (named := getattr(docker.volumes, service)) else []),
            *(desired.default_name(project, service) for project in projects),
        ]
        for service in desired.TARGETS
    }


def _record(source: Source) -> dict[str, Json]:
    return {"service": source.service, **({"folder": source.folder} if source.folder else {})}
