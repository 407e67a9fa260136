"""Which Compose project the stack of a host is: of one that was taken over, its own old name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calm.settings import Settings

RECORD = "record.json"


def compose_project(settings: Settings, root: Path) -> str:
    """What ``docker compose -p`` has to name; containers are told by their label ``calm.project`` instead.

    Apply notes the name in the record; without one, or with one that cannot be read, it is the setting's.
    """
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    docker = record.get("docker") if isinstance(record, Mapping) else None
    noted = docker.get("project") if isinstance(docker, Mapping) else None
    return noted if isinstance(noted, str) and noted else settings.docker.project
