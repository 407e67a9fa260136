"""Files that are replaced in one step, so that nobody reads half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace(path: Path, text: str, *, sync: bool = True) -> None:
    """Replace ``path`` in one step: a reader sees the old text or the new one, never a part of it.

    With ``sync`` that holds after a power cut as well.
    """
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
