"""LM Studio's settings: nothing loads by itself, models load on demand and leave when idle.

Both files belong to LM Studio: it keeps them in memory while it runs and writes them back, and where it
cannot read one it writes its defaults over it. So calm merges into them and never makes one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calm.drift import foreign, json_merge
from calm.drift.lmstudio_keys import SERVER_KEYS, SETTINGS_KEYS, Key, known, version_of
from calm.drift.merge import MergeError, joined
from calm.drift.model import Context, Json, LeftOut, Piece, Resource
from calm.drift.place import refusal_of_place

if TYPE_CHECKING:
    from calm.settings import Settings

KIND = "lmstudio"

STOP_SECONDS = 60
"""How long LM Studio may take to quit or to answer again before a restart has failed."""


@dataclass(frozen=True, kw_only=True)
class _Document:
    """One of LM Studio's files: ``part`` of the probe's answer, ``raw`` the setting with further keys."""

    id: str
    part: str
    name: str
    template: str
    keys: tuple[Key, ...]
    raw: str


DOCUMENTS = (
    _Document(
        id="document:lmstudio-settings",
        part="settings",
        name="settings.json",
        template="lmstudio/settings.json.j2",
        keys=SETTINGS_KEYS,
        raw="settings",
    ),
    _Document(
        id="document:lmstudio-server",
        part="server",
        name="http-server-config.json",
        template="lmstudio/http-server-config.json.j2",
        keys=SERVER_KEYS,
        raw="server_config",
    ),
)


def request(settings: Settings) -> dict[str, Any]:
    """Ask for LM Studio's home, version and files."""
    wanted = settings.lmstudio
    executables = list(wanted.executables)
    return {"lmstudio": {"enabled": wanted.enabled, "home": wanted.home, "executables": executables}}


def compare(context: Context) -> Piece:
    """The drift of the declared keys in LM Studio's two files."""
    found = context.state.get("lmstudio") or {"status": "absent"}
    if context.settings.lmstudio.enabled is False:
        return _left_out("lmstudio.enabled is false")
    if found["status"] != "found":
        return _missing(context)
    parts = [_compare(context, document, found) for document in DOCUMENTS]
    warning = found.get("warning")
    return Piece(
        resources=tuple(resource for part in parts for resource in part.resources),
        left_out=tuple(left for part in parts for left in part.left_out),
        notes=(*((warning,) if warning else ()), *(note for part in parts for note in part.notes)),
        record={"documents": {name: entry for part in parts for name, entry in part.record.items()}},
    )


def _missing(context: Context) -> Piece:
    if context.settings.lmstudio.enabled != "auto":
        hint = 'Install LM Studio and start it once, or set lmstudio.enabled to "auto".'
        return Piece(
            resources=tuple(
                foreign.refused(document.id, "LM Studio is not installed", hint, kind=KIND)
                for document in DOCUMENTS
            )
        )
    return _left_out("LM Studio is not installed")


def _left_out(reason: str) -> Piece:
    return Piece(left_out=tuple(LeftOut(id=document.id, reason=reason) for document in DOCUMENTS))


def _compare(context: Context, document: _Document, found: Mapping[str, Json]) -> Piece:
    entry = found.get(document.part) or {"status": "absent", "path": document.name}
    if foreign.is_blank(entry):
        reason = f"LM Studio has not written its {document.name} yet: start LM Studio once"
        return Piece(left_out=(LeftOut(id=document.id, reason=reason),))
    refusal = refusal_of_place(entry)
    if refusal:
        return Piece(resources=(Resource(id=document.id, kind=KIND, refused=refusal),))
    try:
        present = json_merge.parse(entry["content"])
    except MergeError as error:
        message = f"{entry['path']} cannot be merged into: {error}"
        return Piece(resources=(foreign.refused(document.id, message, error.hint, kind=KIND),))
    return _merge(context, document, found, entry, present)


def _merge(
    context: Context,
    document: _Document,
    found: Mapping[str, Json],
    entry: Mapping[str, Json],
    present: Mapping[str, Json],
) -> Piece:
    declared, unknown = _declared(context.settings, document, present, found.get("version"))
    resource = foreign.resource(
        context,
        foreign.Foreign(
            id=document.id,
            entry=entry,
            present=present,
            declared=declared,
            merger=json_merge.merge,
            kind=KIND,
        ),
    )
    if resource.effects and found.get("running"):
        resource = _while_it_runs(context.settings, resource, found, entry["path"], declared)
    return Piece(
        resources=(resource,),
        notes=_notes(document, unknown, found.get("version")),
        record={document.id: foreign.record_of(entry["path"], declared)},
    )


def _declared(
    settings: Settings, document: _Document, present: Mapping[str, Json], version: str | None
) -> tuple[dict[str, Json], tuple[Key, ...]]:
    from calm.desired.templates import render

    fragment = json.loads(render(document.template, lmstudio=settings.lmstudio))
    declared, unknown = known(fragment, document.keys, present, version_of(version))
    return joined(declared, getattr(settings.lmstudio, document.raw)), unknown


def _while_it_runs(
    settings: Settings,
    resource: Resource,
    found: Mapping[str, Json],
    path: str,
    declared: Mapping[str, Json],
) -> Resource:
    if not settings.lmstudio.restart:
        note = (
            "LM Studio runs: this takes effect at its next start, and LM Studio may write its own values "
            "back when it quits; lmstudio.restart: true stops it for the change and starts it again"
        )
        return replace(resource, note=note)
    step = {"do": "lmstudio", "home": found.get("home"), "deadline_s": STOP_SECONDS}
    # It writes its files when it quits, so the keys are set in what it has written then.
    merge = {"do": "merge_json", "path": path, "values": dict(declared)}
    effects = ({**step, "action": "stop"}, merge, {**step, "action": "start", "always": True})
    return replace(resource, effects=effects, note="LM Studio is stopped for this change and started again")


def _notes(document: _Document, unknown: tuple[Key, ...], version: str | None) -> tuple[str, ...]:
    if not unknown:
        return ()
    who = f"LM Studio {version}" if version else "This LM Studio, which does not tell its version,"
    keys = ", ".join(f"{key.path} (lmstudio.{key.setting})" for key in unknown)
    return (f"{who} has no {keys} in its {document.name}: not added",)
