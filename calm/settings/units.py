"""Sizes and durations as people write them, and the field types that hold them.

A size is an ``int`` of bytes after validation and a string such as ``512M`` in JSON; a duration is a
``float`` of seconds after validation and a number in JSON.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

KIB = 1024
MIB = 1024**2
GIB = 1024**3

# Beyond this no number is meant, and floats and the engine's 64 bits lose count.
_MOST = 10**15

_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,9})?)\s*(?P<unit>[bkmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024**4}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d|w)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def size_bytes(value: Any) -> int:
    """Bytes from ``"512M"``, ``"1.5G"`` or a whole number of bytes; 1024 based, as Docker counts.

    Raises ``ValueError`` with a sentence for anything else, a negative size included.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value <= _MOST:
        if value < 0:
            raise ValueError(f"a size cannot be negative ({value})")
        return value
    if isinstance(value, str):
        text = value.strip()
        if found := _SIZE.fullmatch(text):
            return int(float(found["number"]) * _SIZE_UNITS[found["unit"].lower()])
        if text.startswith("-"):
            raise ValueError(f"a size cannot be negative ({value})")
    raise ValueError(f'{value!r} is not a size; write a number with k, M or G, such as "512M" or "1.5G"')


def size_text(size: int) -> str:
    """The shortest string that ``size_bytes`` and Docker read as exactly ``size`` bytes: ``512M``."""
    for unit, factor in (("G", GIB), ("M", MIB), ("k", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}b" if size else "0"


def duration_seconds(value: Any) -> float:
    """Seconds from a number, or from ``"30s"``, ``"1h30m"``, ``"168h"``, ``"500ms"``, ``"2d"``.

    Raises ``ValueError`` with a sentence for anything else, a negative or endless duration included.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= _MOST:
        if value < 0:
            raise ValueError(f"a duration cannot be negative ({value})")
        return float(value)
    if isinstance(value, str):
        text = value.replace(" ", "")
        parts = _DURATION.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
        if text.startswith("-"):
            raise ValueError(f"a duration cannot be negative ({value})")
    raise ValueError(f'{value!r} is not a duration; write seconds, or such as "30s", "10m", "168h"')


def duration_text(seconds: float) -> str:
    """A duration for people: ``30 s``, ``10 min``, ``1.5 h``, ``7 days``."""
    for unit, factor in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * factor or seconds == factor != 86400:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _plain(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds


Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    PlainSerializer(size_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[bkmgtBKMGT]?(i?[bB])?$"},
            ]
        }
    ),
]
"""Bytes; written ``"512M"`` or as a number of bytes."""

Seconds = Annotated[
    float,
    BeforeValidator(duration_seconds),
    PlainSerializer(_plain, return_type=float, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$"},
            ]
        }
    ),
]
"""Seconds; written as a number or ``"30s"``, ``"168h"``."""
