"""Rollback: the settings that a host had before the last ones, from its own record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calm.settings import Settings

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
    return _with_secrets_of(settings, history[-1])


def present(settings: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings that the last apply worked with, whatever the inventory says."""
    return _with_secrets_of(settings, record["settings"])


def _with_secrets_of(settings: Settings, old: Mapping[str, Any]) -> Settings:
    from calm.settings.load import Layer, load

    now = settings.model_dump(mode="json", by_alias=True)
    whole = _unmasked(old, now) | {"secrets": now["secrets"]}
    return load([Layer(source="the host's record", data=whole)], host="rollback")


def _unmasked(old: Any, now: Any) -> Any:
    """``old`` with each masked value as it is in ``now``.

    Raises:
        NoGenerationError: there is no such value now; the record keeps no secret.
    """
    from calm.settings.dump import MASK

    if isinstance(old, Mapping):
        inner = now if isinstance(now, Mapping) else {}
        return {key: _unmasked(value, inner.get(key)) for key, value in old.items()}
    if isinstance(old, list):
        same = isinstance(now, list) and len(now) == len(old)
        return [_unmasked(value, now[index] if same else None) for index, value in enumerate(old)]
    if isinstance(old, str) and MASK in old:
        if now is None:
            raise NoGenerationError(
                "The generation before has a secret among its raw keys, which the record does not keep. "
                "Write those settings into the inventory and apply them."
            )
        return now
    return old


def history(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[Any]:
    """The generations before ``now``, oldest first. Going back takes the last one away."""
    past = list(record.get("history") or [])
    current = record.get("settings")
    if current is None or current == now:
        return past
    if past and past[-1] == now:
        return past[:-1]
    return [*past, current][-KEPT:]
