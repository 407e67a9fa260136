"""Settings as JSON: what ``calm settings`` prints and what the agent reads from ``<root>/settings.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calm.settings import Settings
from calm.settings.secrets import looks_secret

MASK = "********"


def to_json(settings: Settings, mask: bool = True) -> dict[str, Any]:
    """The effective settings, which ``calm.settings.load.load`` reads again.

    The section ``secrets`` is left out: where a secret comes from is the controller's business. With
    ``mask`` a value under a key that looks secret is hidden too; users can write raw keys that hold one.
    """
    whole = settings.model_dump(mode="json", by_alias=True, exclude={"secrets"})
    return _masked(whole) if mask else whole


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: MASK if _hidden(key, inner) else _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value


def _hidden(key: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and looks_secret(key)
