"""Golden files: what a renderer writes today has to be what was reviewed. CALM_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def same(name: str, content: bytes) -> bool:
    """Whether ``content`` is the golden file of this name, byte for byte."""
    path = FOLDER / name
    if os.environ.get("CALM_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path.read_bytes() == content
