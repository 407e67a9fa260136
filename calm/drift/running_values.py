"""The values that redis and postgres should run with, in the form in which they tell them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calm.settings.sizing import postgres_parameters, redis_maxmemory

if TYPE_CHECKING:
    from calm.settings import Settings

_SAVE = {"none": "", "aof": "", "rdb": "3600 1 300 100 60 10000"}
_SIZE = re.compile(r"(-?\d+)\s*(kB|MB|GB|TB)")
_BYTES = {"kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


@dataclass(frozen=True, kw_only=True)
class Value:
    """A declared value; ``64MB`` and ``65536kB`` are the same one."""

    text: str

    def is_met_by(self, found: str) -> bool:
        """Whether what the server says is this value."""
        return _plain(found) == _plain(self.text)


def wanted(settings: Settings, service: str) -> dict[str, Value]:
    """By parameter; nothing for a service that is neither redis nor postgres."""
    texts = {"redis": _redis, "postgres": _postgres}.get(service, lambda _: {})(settings)
    return {name: Value(text=text) for name, text in texts.items()}


def _redis(settings: Settings) -> dict[str, str]:
    redis = settings.docker.redis
    return {
        "maxmemory": str(redis_maxmemory(redis)),
        "maxmemory-policy": redis.maxmemory_policy,
        "save": _SAVE[redis.persistence],
        "appendonly": "yes" if redis.persistence == "aof" else "no",
    }


def _postgres(settings: Settings) -> dict[str, str]:
    return postgres_parameters(settings.docker.postgres)


def _plain(text: str) -> str | int:
    found = _SIZE.fullmatch(text.strip())
    return int(found[1]) * _BYTES[found[2]] if found else text.strip()
