"""Rollback: the settings that a host had before the last ones, from its own record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calm.settings import Settings
from calm.settings.load import Layer, load

KEPT = 10
"""How many generations of settings a host remembers."""


class NoGenerationError(Exception):
    """The host has no settings from before."""


def before(settings: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings of the generation before, with the secrets that the inventory gives now.

    Raises:
        NoGenerationError: nothing was applied before the last apply.
        SettingsError: this version of calm does not take those settings any more.
    """
    history = record.get("history") or []
    if not history:
        raise NoGenerationError("There is no generation before this one to go back to.")
    old = {key: value for key, value in history[-1].items() if key != "secrets"}
    secrets = settings.model_dump(mode="json").get("secrets", {})
    return load([Layer(source="the generation before", data=old | {"secrets": secrets})], host="rollback")


def history(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[Any]:
    """The generations before ``now``, oldest first. Going back takes the last one away."""
    past = list(record.get("history") or [])
    current = record.get("settings")
    if current is None or current == now:
        return past
    if past and past[-1] == now:
        return past[:-1]
    return [*past, current][-KEPT:]
