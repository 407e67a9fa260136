"""Settings as JSON: what ``calm settings`` prints and what the agent reads from ``<root>/settings.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from calm.settings import Settings
from calm.settings.secrets import looks_secret

MASK = "********"


RAW = (
    ("docker", "services"),
    ("docker", "agent_api", "environment"),
    ("lmstudio", "settings"),
    ("lmstudio", "server_config"),
)
"""Where users write keys of their own, one of which may hold a secret; calm's own settings never do."""

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/@:]*):([^\s/@]+)@")


def to_json(settings: Settings, mask: bool = True) -> dict[str, Any]:
    """The effective settings, which ``calm.settings.load.load`` reads again.

    The section ``secrets`` is left out: where a secret comes from is the controller's business. With
    ``mask`` a secret in a raw key is hidden too: under a key that looks secret, in ``KEY=value`` of such a
    key, and as the password of a URL.
    """
    whole = settings.model_dump(mode="json", by_alias=True, exclude={"secrets"})
    if mask:
        for *path, last in RAW:
            section = reduce(getitem, path, whole)
            section[last] = _masked(section[last])
    return whole


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: MASK if _hidden(str(key), inner) else _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [
            MASK if isinstance(item, str) and item and _is_option(before) else _masked(item)
            for before, item in zip(["", *value], value, strict=False)
        ]
    return _masked_text(value) if isinstance(value, str) else value


def _hidden(key: str, value: Any) -> bool:
    # A mapping under such a key (Compose's own `secrets`) is looked through instead.
    return isinstance(value, (str, int)) and not isinstance(value, bool) and bool(value) and looks_secret(key)


def _is_option(word: Any) -> bool:
    """Whether the next word of a command line is a secret: ``--password``, ``--requirepass``."""
    return isinstance(word, str) and word.startswith("-") and "=" not in word and looks_secret(word)


def _masked_text(text: str) -> str:
    key, equals, value = text.partition("=")
    if equals and value and looks_secret(key) and key.lstrip("-").replace("-", "_").isidentifier():
        return f"{key}={MASK}"
    if " " in text and any(word.startswith("-") for word in text.split(" ")):
        text = " ".join(_masked(text.split(" ")))
    return _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)
