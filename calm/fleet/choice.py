"""``--only``: which resources of a host take part, with what they depend on."""

from __future__ import annotations

from dataclasses import replace

from calm.drift.model import HostDrift, Resource


class UnknownResourceError(Exception):
    """``--only`` names no kind and no id that this host has."""


def chosen(drift: HostDrift, only: tuple[str, ...]) -> HostDrift:
    """``drift`` narrowed to the kinds and ids in ``only`` and to what those need; all of it for ``()``.

    Raises:
        UnknownResourceError: a word in ``only`` matches nothing.
    """
    if not only:
        return drift
    by_id = {resource.id: resource for resource in drift.resources}
    wanted: set[str] = set()
    for word in only:
        named = {identity for identity, resource in by_id.items() if word in (identity, resource.kind)}
        left = any(word in (item.id, item.id.split(":")[0]) for item in drift.left_out)
        if not named and not left:
            raise UnknownResourceError(f"--only {word} names no resource. There are: {', '.join(by_id)}.")
        wanted |= named
    kept = _with_needs(wanted, by_id)
    return replace(drift, resources=tuple(item for item in drift.resources if item.id in kept))


def _with_needs(wanted: set[str], by_id: dict[str, Resource]) -> set[str]:
    kept: set[str] = set()
    queue = list(wanted)
    while queue:
        identity = queue.pop()
        if identity not in kept and identity in by_id:
            kept.add(identity)
            queue += by_id[identity].needs
    return kept
