"""The record of what apply last did on a host: what gives drift its origin, and rollback its way back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from calm.drift.model import Json

SECTIONS = ("documents", "services", "secrets", "volumes", "schedules")
"""Parts of the record that hold an entry per resource, under the resource's id or the name in it."""


def after(old: Mapping[str, Any], new: Mapping[str, Any], *, failed: Collection[str]) -> dict[str, Json]:
    """The record once ``new`` was applied, but for the resources in ``failed``, which stay as in ``old``."""
    whole = dict(new)
    for section in SECTIONS:
        whole[section] = {
            key: old.get(section, {}).get(key) if _names(key, section) & set(failed) else value
            for key, value in new.get(section, {}).items()
        }
        whole[section] = {key: value for key, value in whole[section].items() if value is not None}
    if "agent" in new and any(identity.split(":")[0] == "agent" for identity in failed):
        whole["agent"] = old.get("agent")
    return whole


def unreadable(state: Mapping[str, Any]) -> tuple[str, ...]:
    """A note about a record that cannot be read: a plan without one knows no origins."""
    error = state.get("record_error")
    if not error:
        return ()
    return (f"{error}: who changed what is not known now, and there is no generation to roll back to",)


def _names(key: str, section: str) -> set[str]:
    return {key, f"{section.removesuffix('s')}:{key}"}
