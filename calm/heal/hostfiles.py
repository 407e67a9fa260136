"""What healing reads of the files under the root: the record of what apply has made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calm import jsonfile


@dataclass(frozen=True, kw_only=True)
class Record:
    """``wanted`` maps services that apply has made to their containers; ``applied_at`` is when."""

    wanted: Mapping[str, str] = field(default_factory=dict)
    applied_at: float | None = None


def record(root: Path) -> Record:
    """What ``record.json`` says; an empty one without a file, or with one that cannot be read."""
    try:
        content = jsonfile.read(root / "record.json")
    except (OSError, ValueError):
        return Record()
    services = content.get("services") if isinstance(content, Mapping) else None
    if not isinstance(services, Mapping):
        return Record()
    at = content.get("applied_at")
    return Record(
        wanted={name: each["container"] for name, each in services.items() if _has_container(each)},
        applied_at=at if isinstance(at, int | float) else None,
    )


def _has_container(service: Any) -> bool:
    return isinstance(service, Mapping) and isinstance(service.get("container"), str)
