"""LM Studio's own settings files, merged key by key."""

from __future__ import annotations

from operations._resource import converge_all


def settings() -> None:
    """Set the keys that calm declares in LM Studio's files, and leave every other as it is."""
    converge_all(("lmstudio",))
