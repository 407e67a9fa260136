"""Documents: the files that calm owns whole, and the section ``llm`` of the application's app.yaml."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from calm.drift import app_yaml
from calm.drift.foreign import is_blank
from calm.drift.model import (
    Action,
    Change,
    Context,
    Effect,
    Json,
    Origin,
    Piece,
    Resource,
    joint_origin,
    origin_of,
)
from calm.drift.place import folder_for, refusal_of_place, refusal_to_write
from calm.drift.text import unified

if TYPE_CHECKING:
    from calm.desired.documents import Owned
    from calm.settings import Settings


def request(settings: Settings) -> dict[str, Any]:
    """Ask for each document that there should be."""
    from calm.desired.app_yaml import ID as APP_YAML
    from calm.desired.documents import paths

    wanted = {**paths(settings), APP_YAML: settings.llm.app_yaml}
    return {"documents": {name: {"path": path} for name, path in wanted.items()}}


def compare(context: Context) -> Piece:
    """The owned documents as the desired state lists them, app.yaml, then those that nobody wants now."""
    from calm.desired.documents import owned

    wanted = owned(context)
    merged = app_yaml.compare(context)
    return Piece(
        resources=(
            *(_compare(context, document) for document in wanted),
            *merged.resources,
            *_removed(context, {document.id for document in wanted}),
        ),
        record={"documents": {**{document.id: _record(document) for document in wanted}, **merged.record}},
    )


def _compare(context: Context, document: Owned) -> Resource:
    entry = context.state["files"][document.id]
    changes = _changes(context, document, entry)
    if not changes:
        return _resource(document.id)
    refusal = refusal_of_place(entry, owned=True) or refusal_to_write(context, entry)
    if refusal:
        return _resource(document.id, refused=refusal)
    return _resource(
        document.id,
        action=Action.CREATE if is_blank(entry) else Action.UPDATE,
        origin=joint_origin(tuple(change.origin for change in changes if change.origin)),
        changes=changes,
        diff=_diff(context, document, entry),
        effects=(*folder_for(entry), _write(document, entry)),
        needs=document.needs,
    )


def _resource(identity: str, **fields: Any) -> Resource:
    return Resource(id=identity, kind="document", **fields)


def _changes(context: Context, document: Owned, entry: Mapping[str, Json]) -> tuple[Change, ...]:
    """The fields of a file that differ: whether it is there, what it is, its content, mode and owner."""
    recorded = _recorded(context).get(document.id) or {}
    if entry["status"] != "file":
        known = "file" if recorded else None
        origin = origin_of(recorded=known, before=entry["status"], after="file")
        return (Change(path="status", before=entry["status"], after="file", origin=origin),)
    user = context.state["host"].get("uid")
    return (
        *_field("content", recorded.get("sha256"), entry["sha256"], _sha256(document.content)),
        *_field("mode", recorded.get("mode"), entry["mode"], document.mode),
        *_field("owner", user if recorded else None, entry.get("uid"), user),
    )


def _field(path: str, recorded: Json, before: Json, after: Json) -> Iterator[Change]:
    """A change if the host has another value; a host without modes and owners has None for them."""
    if None not in (before, after) and before != after:
        origin = origin_of(recorded=recorded, before=before, after=after)
        yield Change(path=path, before=_short(before), after=_short(after), origin=origin)


def _diff(context: Context, document: Owned, entry: Mapping[str, Json]) -> str | None:
    return unified(
        None if is_blank(entry) else entry.get("content"),
        document.content,
        name=document.path,
        secrets=context.secrets.values(),
        digest_key=context.digest_key,
    )


def _write(document: Owned, entry: Mapping[str, Json]) -> Effect:
    return {
        "do": "write",
        "path": document.path,
        "content": document.content,
        "mode": document.mode,
        "expect": entry["sha256"] if entry["status"] == "file" else entry["status"],
        "backup": True,
        "replace_link": True,
    }


def _removed(context: Context, wanted: set[str]) -> Iterator[Resource]:
    """Takes away what calm owned once; of a merged document nothing but our keys was ours.

    The effect refuses a file that somebody has changed since calm wrote it.
    """
    for identity, entry in _recorded(context).items():
        if not entry or "sha256" not in entry or identity in wanted:
            continue
        change = Change(path="status", before="file", after="absent", origin=Origin.SETTINGS)
        yield _resource(
            identity,
            action=Action.REMOVE,
            origin=Origin.SETTINGS,
            changes=(change,),
            effects=({"do": "remove_file", "path": entry["path"], "expect": entry["sha256"]},),
        )


def _recorded(context: Context) -> Mapping[str, Json]:
    return context.record.get("documents") or {}


def _record(document: Owned) -> dict[str, Json]:
    return {"path": document.path, "sha256": _sha256(document.content), "mode": document.mode}


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _short(value: Json) -> Json:
    return value[:12] if isinstance(value, str) else value
