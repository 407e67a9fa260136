"""What the agent of a host knows: findings that are open, a pause, a stack that is wanted stopped.

Read from its files, so that a plan wakes nothing. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
from typing import Any

OPEN = "SELECT rule, target, mode, since FROM findings WHERE ended IS NULL ORDER BY since"
SECONDS = 1.0


def read(part: dict[str, Any], root: str) -> dict[str, Any]:
    """``{"findings": [{"rule", "target", "mode", "since"}], "error": text or None, "paused": bool}``.

    ``part`` names the files below ``root``: ``journal`` and ``pause``.
    """
    journal = os.path.join(root, part["journal"])
    paused = os.path.exists(os.path.join(root, part["pause"]))
    if not os.path.isfile(journal):
        return {"findings": [], "error": None, "paused": paused}
    try:
        return {"findings": _open(journal), "error": None, "paused": paused}
    except Exception as error:  # a journal that cannot be read is told, and is no reason to plan nothing
        return {"findings": [], "error": f"{journal} cannot be read: {error}", "paused": paused}


def _open(journal: str) -> list[dict[str, Any]]:
    import sqlite3
    from urllib.parse import quote

    # Read-only still makes a -shm file beside a journal that nobody has open; immutable does not.
    mode = "mode=ro" if os.path.exists(journal + "-shm") else "immutable=1"
    connection = sqlite3.connect(f"file:{quote(journal)}?{mode}", uri=True, timeout=SECONDS)
    try:
        rows = connection.execute(OPEN).fetchall()
    finally:
        connection.close()
    return [
        {"rule": rule, "target": target, "mode": mode, "since": since} for rule, target, mode, since in rows
    ]
