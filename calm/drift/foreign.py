"""A document that somebody else owns, as a resource: refused, left as it is, or merged into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calm.drift.merge import MergeError, Merger, changes, leaves, masked_same
from calm.drift.model import Action, Context, Effect, Json, Refusal, Resource, joint_origin
from calm.drift.place import folder_for, refusal_to_write
from calm.drift.text import unified
from calm.onhost.masking import looks_secret


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """What is declared in one foreign file.

    ``entry`` is the file as the probe read it (``path``, ``status``, ``content``, ``sha256``, ``masked``),
    ``present`` what its text holds.
    """

    id: str
    entry: Mapping[str, Json]
    present: Mapping[str, Json]
    declared: Mapping[str, Json]
    merger: Merger
    kind: str = "document"


def refused(identity: str, message: str, hint: str, *, kind: str = "document") -> Resource:
    """A document that cannot be converged."""
    return Resource(id=identity, kind=kind, refused=Refusal(message=f"{message}.", hint=hint))


def is_blank(entry: Mapping[str, Json]) -> bool:
    """Whether there is no file, or one without a word in it, which counts as none."""
    text = entry.get("content")
    return entry["status"] == "absent" or (
        entry["status"] == "file" and text is not None and not text.strip("\ufeff \t\r\n")
    )


def resource(context: Context, foreign: Foreign, *, note: str | None = None) -> Resource:
    """The drift of the declared keys, and the one write that mends it."""
    same = masked_same(context.digest_key)
    recorded = recorded_values(context, foreign.id)
    try:
        text = foreign.merger(foreign.entry["content"], foreign.declared, same=same)
    except MergeError as error:
        message = f"{foreign.entry['path']} cannot be merged into: {error}"
        return refused(foreign.id, message, error.hint, kind=foreign.kind)
    if text == foreign.entry["content"]:
        return Resource(id=foreign.id, kind=foreign.kind)
    refusal = refusal_to_write(context, foreign.entry)
    if refusal:
        return Resource(id=foreign.id, kind=foreign.kind, refused=refusal)
    found = changes(foreign.present, foreign.declared, recorded, same=same)
    return Resource(
        id=foreign.id,
        kind=foreign.kind,
        action=Action.UPDATE,
        origin=joint_origin(tuple(change.origin for change in found if change.origin)),
        changes=found,
        diff=unified(
            foreign.entry["content"],
            text,
            name=foreign.entry["path"],
            secrets=context.secrets.values(),
            digest_key=context.digest_key,
        ),
        effects=(write(context, foreign.entry, text),),
        note=note,
    )


def write(context: Context, entry: Mapping[str, Json], text: str) -> Effect:
    """Put ``text`` in the place of the present file: its mode and owner stay, its secrets are put back."""
    return {
        "do": "write",
        "path": entry["path"],
        "content": text,
        "keep": True,
        "unmask": True,
        "digest_key": context.digest_key,
        "expect": entry["sha256"],
        "backup": True,
    }


def created(context: Context, entry: Mapping[str, Json], text: str, *, mode: str) -> tuple[Effect, ...]:
    """Put a first text where there is no file, or a blank one, which keeps its mode and owner."""
    if entry["status"] != "absent":
        return (write(context, entry, text),)
    new = {"do": "write", "path": entry["path"], "content": text, "mode": mode, "expect": "absent"}
    return (*folder_for(entry), {**new, "backup": True})


def recorded_values(context: Context, identity: str) -> Mapping[str, Json]:
    """The declared values by path that the last apply left in this document."""
    document = (context.record.get("documents") or {}).get(identity) or {}
    return document.get("values") or {}


def record_of(path: str, declared: Mapping[str, Json]) -> dict[str, Json]:
    """This document's part of the next record; a value under a secret-looking key is not kept."""
    values = {".".join(keys): value for keys, value in leaves(declared) if not looks_secret(keys[-1])}
    return {"path": path, "values": values}
