"""Text for people: unified diffs, with every secret hidden, by its key and by its value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from calm.onhost.masking import HIDDEN, PLACEHOLDER, Masker

_NO_KEY = "00" * 32
"""For masks that leave no placeholder behind; a run's own key is needed only to tell two secrets apart."""

_PLACEHOLDER = re.compile(rf"{PLACEHOLDER}[0-9a-f]+")


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the values in ``secrets`` and without what stands behind a secret-looking key."""
    masker = Masker(_NO_KEY, secrets)
    return _hidden(masker.text(text)[0], masker)


def unified(
    before: str | None,
    after: str | None,
    *,
    name: str,
    secrets: Iterable[str] = (),
    digest_key: str = _NO_KEY,
) -> str | None:
    """A unified diff of two texts; None where they are the same. None for a text means no file.

    A secret that changes is seen to change: both lines are there, and both are hidden. ``digest_key`` is the
    key of the placeholders that the probe has put into a text.
    """
    masker = Masker(digest_key, secrets)
    lines = difflib.unified_diff(
        _lines(before, masker),
        _lines(after, masker),
        fromfile="/dev/null" if before is None else name,
        tofile="/dev/null" if after is None else name,
    )
    return _hidden("".join(_ended(line) for line in lines), masker) or None


def _lines(text: str | None, masker: Masker) -> list[str]:
    return masker.text(text or "")[0].splitlines(keepends=True)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _hidden(text: str, masker: Masker) -> str:
    return _PLACEHOLDER.sub(HIDDEN, masker.hide(text))
