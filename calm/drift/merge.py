"""Merged documents: what is declared, in a file that somebody else owns.

The rules that YAML and JSON share: what counts as the same value, which declared keys differ, and why a file
is refused rather than replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from calm.drift.model import Change, Json, origin_of
from calm.onhost.masking import PLACEHOLDER, Masker, looks_secret

ABSENT: Final = object()
"""What a key that is not in the file has."""

Same = Callable[[Json, Json], bool]
"""Whether a value of the file (first) counts as the declared one (second)."""


class MergeError(ValueError):
    """The file cannot be merged into; ``hint`` says what a person can do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Merger(Protocol):
    """``calm.drift.json_merge.merge`` or ``calm.drift.yaml_splice.merge``."""

    def __call__(self, text: str, declared: Mapping[str, Json], *, same: Same) -> str: ...


def plain_same(present: Json, wanted: Json) -> bool:
    """Equality as JSON has it: 30 and 30.0 are one number, and true is not 1."""
    if isinstance(present, Mapping) and isinstance(wanted, Mapping):
        return present.keys() == wanted.keys() and all(
            plain_same(present[key], wanted[key]) for key in wanted
        )
    if isinstance(present, list) and isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(present) == len(wanted) and all(map(plain_same, present, wanted))
    return isinstance(present, bool) == isinstance(wanted, bool) and bool(present == wanted)


def masked_same(digest_key: str) -> Same:
    """Equality with a file whose secrets the probe has replaced by placeholders of this run's key."""

    masker = Masker(digest_key)

    def same(present: Json, wanted: Json) -> bool:
        if isinstance(present, str) and present.startswith(PLACEHOLDER):
            return isinstance(wanted, str) and present in (wanted, masker.placeholder(wanted))
        return plain_same(present, wanted)

    return same


def as_path(parent: str, key: str) -> str:
    """The dotted path of ``key`` below ``parent``."""
    return f"{parent}.{key}" if parent else key


def joined(lower: Mapping[str, Json], upper: Mapping[str, Json]) -> dict[str, Json]:
    """A deep merge: mappings are joined, any other value of ``upper`` takes that of ``lower``'s place."""
    out = dict(lower)
    for key, value in upper.items():
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            out[key] = joined(old, value)
        else:
            out[key] = value
    return out


def leaves(
    declared: Mapping[str, Json], parents: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Json]]:
    """The declared values with the keys that lead to them; mappings are opened, lists are values."""
    for key, value in declared.items():
        keys = (*parents, str(key))
        if isinstance(value, Mapping) and value:
            yield from leaves(value, keys)
        else:
            yield keys, value


def changes(
    present: Mapping[str, Json], declared: Mapping[str, Json], recorded: Mapping[str, Json], *, same: Same
) -> tuple[Change, ...]:
    """A change for each declared key that the file lacks or has otherwise.

    ``recorded`` are the values by path that the last apply wrote: they give each change its origin.
    """
    found: list[Change] = []
    for keys, wanted in leaves(declared):
        before = lookup(present, keys)
        if before is ABSENT or not same(before, wanted):
            found.append(_change(keys, None if before is ABSENT else before, wanted, recorded))
    return tuple(found)


def lookup(present: Json, keys: Sequence[str]) -> Json:
    """The value that ``keys`` lead to, or ABSENT."""
    for key in keys:
        if not isinstance(present, Mapping) or key not in present:
            return ABSENT
        present = present[key]
    return present


def _change(keys: tuple[str, ...], before: Json, wanted: Json, recorded: Mapping[str, Json]) -> Change:
    path = ".".join(keys)
    return Change(
        path=path,
        before=before,
        after=wanted,
        sensitive=isinstance(wanted, str) and looks_secret(keys[-1]),
        origin=origin_of(recorded=recorded.get(path), before=before, after=wanted),
    )
