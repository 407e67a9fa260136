"""The application's app.yaml: of its section ``llm`` the declared keys, of everything else nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from calm.desired.app_yaml import ID, SECTION
from calm.desired.app_yaml import declared as declared_values
from calm.drift import foreign, yaml_splice, yaml_text
from calm.drift.merge import MergeError
from calm.drift.model import Action, Change, Context, Json, Piece, Resource, origin_of
from calm.drift.place import refusal_of_place, refusal_to_write
from calm.drift.text import unified

if TYPE_CHECKING:
    from calm.settings import Settings

TEMPLATE = "app/app.yaml.j2"
NEW_MODE = "0644"


def compare(context: Context) -> Piece:
    """The drift of the declared keys; the record is this document's own."""
    entry = context.state["files"][ID]
    refusal = refusal_of_place(entry)
    if refusal:
        return Piece(resources=(Resource(id=ID, kind="document", refused=refusal),))
    if foreign.is_blank(entry):
        return _new(context, entry)
    try:
        present = yaml_splice.section(entry["content"], SECTION)
    except MergeError as error:
        message = f"{entry['path']} cannot be merged into: {error}"
        return Piece(resources=(foreign.refused(ID, message, error.hint),))
    return _merged(context, entry, present)


def _merged(context: Context, entry: Mapping[str, Json], present: Mapping[str, Json]) -> Piece:
    declared = _values(context.settings, present, fresh=not present)
    document = foreign.Foreign(
        id=ID, entry=entry, present={SECTION: present}, declared=declared, merger=yaml_splice.merge
    )
    kept = declared if present else _values(context.settings, present, fresh=False)
    return Piece(resources=(foreign.resource(context, document),), record=_record(entry, kept))


def _new(context: Context, entry: Mapping[str, Json]) -> Piece:
    """The whole file from the template, where there was none."""
    text = _rendered(context.settings, {}, fresh=True)
    known = "file" if (context.record.get("documents") or {}).get(ID) else None
    origin = origin_of(recorded=known, before=entry["status"], after="file")
    refusal = refusal_to_write(context, entry)
    resource = Resource(
        id=ID,
        kind="document",
        action=Action.NONE if refusal else Action.CREATE,
        origin=origin,
        changes=(Change(path="status", before="absent", after="file", origin=origin),),
        diff=unified(None, text, name=entry["path"], secrets=context.secrets.values()),
        effects=() if refusal else foreign.created(context, entry, text, mode=NEW_MODE),
        refused=refusal,
    )
    return Piece(resources=(resource,), record=_record(entry, _values(context.settings, {}, fresh=False)))


def _record(entry: Mapping[str, Json], kept: Mapping[str, Json]) -> dict[str, Json]:
    """What is declared from now on; a provider that was put into a new file belongs to whoever edits it."""
    return {ID: foreign.record_of(entry["path"], kept)}


def _values(settings: Settings, present: Mapping[str, Json], *, fresh: bool) -> Mapping[str, Json]:
    from calm.desired.templates import parsed

    found: Mapping[str, Json] = parsed(_rendered(settings, present, fresh=fresh))
    return found


def _rendered(settings: Settings, present: Mapping[str, Json], *, fresh: bool) -> str:
    from calm.desired.templates import render

    values = declared_values(settings, present, fresh=fresh)
    return render(TEMPLATE, fresh=fresh, llm={key: _text(value) for key, value in values.items()})


def _text(value: Json) -> Json:
    """Values as YAML text for the template, which knows the shape of the section."""
    if isinstance(value, list):
        return [{yaml_text.flow(key): yaml_text.flow(inner) for key, inner in item.items()} for item in value]
    return yaml_text.flow(value)
