"""The application's app.yaml: of its section ``llm`` the declared keys, of everything else nothing."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

import yaml

from calm.drift import foreign, yaml_splice, yaml_text
from calm.drift.merge import MergeError
from calm.drift.model import Action, Change, Context, Json, Piece, Resource, origin_of
from calm.drift.place import refusal_of_place, refusal_to_write
from calm.drift.text import unified

if TYPE_CHECKING:
    from calm.settings import Settings

ID = "document:app.yaml"
SECTION = "llm"
TEMPLATE = "app/app.yaml.j2"

PROVIDER = "lmstudio"
MODEL = "local-model"
"""In a new file: LM Studio answers an unknown name with the model that is loaded."""

NEW_MODE = "0644"
_KEPT = ("provider", "model", "endpoint")
_SET = ("request_timeout", "connection_pool_size", "max_retries", "retry_backoff_ms")


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
    declared = yaml.safe_load(_rendered(context.settings, present, fresh=not present))
    document = foreign.Foreign(
        id=ID, entry=entry, present={SECTION: present}, declared=declared, merger=yaml_splice.merge
    )
    return Piece(resources=(foreign.resource(context, document),), record=_record(context, entry, present))


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
    return Piece(resources=(resource,), record=_record(context, entry, {}))


def _record(context: Context, entry: Mapping[str, Json], present: Mapping[str, Json]) -> dict[str, Json]:
    """What is declared from now on; a provider that was put into a new file belongs to whoever edits it."""
    declared = yaml.safe_load(_rendered(context.settings, present, fresh=False))
    return {ID: foreign.record_of(entry["path"], declared)}


def _rendered(settings: Settings, present: Mapping[str, Json], *, fresh: bool) -> str:
    from calm.desired.templates import render

    llm = settings.llm.model_dump(mode="json", exclude_none=True, include={*_KEPT, *_SET, "fallbacks"})
    llm["fallbacks"] = _fallbacks(llm["fallbacks"], present.get("fallbacks"))
    values = {key: _number(value) for key, value in llm.items()}
    if fresh:
        values = {**_defaults(settings), **values}
    return render(TEMPLATE, fresh=fresh, llm={key: _text(value) for key, value in values.items()})


def _defaults(settings: Settings) -> dict[str, Json]:
    return {"provider": PROVIDER, "model": MODEL, "endpoint": endpoint(settings)}


def endpoint(settings: Settings) -> str:
    """LM Studio's end point for chat, as a client on the same host reaches it."""
    server = settings.lmstudio.server
    address = ip_address(server.bind)
    host = "127.0.0.1" if address.is_unspecified else server.bind
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1/chat/completions"


def _fallbacks(declared: list[dict[str, Json]], present: Json) -> list[dict[str, Json]]:
    """The declared providers in their order, each with the keys that the file gives it beside ours."""
    there = [item for item in present if isinstance(item, Mapping)] if isinstance(present, list) else []
    by_provider = {str(item.get("provider")): item for item in reversed(there)}
    return [
        {"provider": item["provider"], **by_provider.get(item["provider"], {}), **item} for item in declared
    ]


def _text(value: Json) -> Json:
    """Values as YAML text for the template, which knows the shape of the section."""
    if isinstance(value, list):
        return [{yaml_text.flow(key): yaml_text.flow(inner) for key, inner in item.items()} for item in value]
    return yaml_text.flow(value)


def _number(value: Json) -> Json:
    """30 rather than 30.0, as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
