"""LM Studio's own keys: which of them calm sets, in which file, and since when LM Studio has them.

LM Studio calls the format of its files no stable interface, and key sets differ by version. So a key is
set where the file has it already, or where the installed version is known to have it; it is never invented.
The keys and the files that held them were read from settings of real installations, 2024 to 0.4.7; the
versions 0.3.5 and 0.3.9 are those of LM Studio's API changelog, the others are the oldest in which the key
was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from calm.drift.merge import ABSENT, lookup
from calm.drift.model import Json

Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of LM Studio: its place, the setting that decides it, the first version known to have it."""

    keys: tuple[str, ...]
    setting: str
    since: Version

    @property
    def path(self) -> str:
        """The key with the dots that people write."""
        return ".".join(self.keys)


SETTINGS_KEYS = (
    Key(keys=("autoLoadBundledLLM",), setting="autoload", since=(0, 3, 0)),
    Key(keys=("enableLocalService",), setting="start_at_login", since=(0, 3, 5)),
    Key(keys=("developer", "jitModelTTL"), setting="jit.ttl_seconds", since=(0, 3, 9)),
    Key(keys=("developer", "unloadPreviousJITModelOnLoad"), setting="jit.auto_evict", since=(0, 3, 9)),
    Key(keys=("modelLoadingGuardrails", "mode"), setting="guardrails", since=(0, 3, 0)),
    Key(keys=("defaultContextLength",), setting="context_length", since=(0, 4, 0)),
)
"""settings.json: what loads by itself, what leaves when idle, what is refused as too large."""

SERVER_KEYS = (
    Key(keys=("autoStartOnLaunch",), setting="server.autostart", since=(0, 4, 0)),
    Key(keys=("port",), setting="server.port", since=(0, 3, 0)),
    Key(keys=("cors",), setting="server.cors", since=(0, 3, 0)),
    Key(keys=("networkInterface",), setting="server.bind", since=(0, 3, 0)),
    Key(keys=("justInTimeModelLoading",), setting="jit.enabled", since=(0, 3, 5)),
)
"""http-server-config.json: the HTTP server, and whether it loads a model that a request names."""


def version_of(text: str | None) -> Version | None:
    """``0.4.7`` or ``0.4.7+4`` as numbers; None where LM Studio did not say."""
    found = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(map(int, found[0].split("."))) if found else None


def known(
    fragment: Mapping[str, Json], table: tuple[Key, ...], present: Mapping[str, Json], version: Version | None
) -> tuple[dict[str, Json], tuple[Key, ...]]:
    """What of ``fragment`` this LM Studio knows, and the keys that it does not.

    A null in the fragment leaves the value as it is, and is in neither.
    """
    out: dict[str, Json] = {}
    unknown: list[Key] = []
    for key, value in _declared(fragment, table):
        if lookup(present, key.keys) is not ABSENT or (version is not None and version >= key.since):
            _put(out, key.keys, value)
        else:
            unknown.append(key)
    return out, tuple(unknown)


def _declared(fragment: Mapping[str, Json], table: tuple[Key, ...]) -> Iterator[tuple[Key, Json]]:
    for key in table:
        value = _without_nulls(lookup(fragment, key.keys))
        if value is not None and value is not ABSENT:
            yield key, value


def _without_nulls(value: Json) -> Json:
    if not isinstance(value, Mapping):
        return value
    kept = {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return kept or None


def _put(out: dict[str, Json], keys: tuple[str, ...], value: Json) -> None:
    for key in keys[:-1]:
        out = out.setdefault(key, {})
    out[keys[-1]] = value
