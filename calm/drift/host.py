"""The drift of one host: every piece asks its part of the probe and compares its part of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from calm.drift.model import Context, HostDrift, Json
from calm.drift.record import unreadable

if TYPE_CHECKING:
    from calm.settings import Settings

PIECES = (
    "takeover",
    "secrets",
    "documents",
    "volumes",
    "services",
    "lmstudio",
    "agent",
    "schedules",
    "healing",
)
"""In the order of application: a service needs its secrets, documents and volumes first."""


def request(settings: Settings, *, digest_key: str) -> dict[str, Json]:
    """What the probe has to read on this host, in one run."""
    whole: dict[str, Json] = {"schema": 1, "root": settings.root, "digest_key": digest_key}
    for piece in _pieces():
        whole = merged(whole, piece.request(settings))
    return whole


def compare(context: Context) -> HostDrift:
    """The difference between ``context.state`` and ``context.settings``, of the declared keys alone."""
    parts = [piece.compare(context) for piece in _pieces()]
    return HostDrift(
        resources=tuple(resource for part in parts for resource in part.resources),
        left_out=tuple(left for part in parts for left in part.left_out),
        notes=(*unreadable(context.state), *(note for part in parts for note in part.notes)),
        record=_joined(part.record for part in parts),
    )


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """A deep merge of two mappings; lists are joined without repeats, other values of ``upper`` win."""
    out = dict(lower)
    for key, value in upper.items():
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            out[key] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            out[key] = [*old, *(item for item in value if item not in old)]
        else:
            out[key] = value
    return out


def _pieces() -> list[ModuleType]:
    return [import_module(f"calm.drift.{name}") for name in PIECES]


def _joined(records: Any) -> dict[str, Json]:
    whole: dict[str, Json] = {"schema": 1}
    for record in records:
        whole = merged(whole, record)
    return whole
