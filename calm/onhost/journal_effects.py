"""A line about an apply in the agent's journal, so that it stands beside findings and remedies."""

from __future__ import annotations

import json
import os
import time
from typing import Any
from urllib.parse import quote

from calm.onhost.run import Outcome, Run

JOURNAL = "journal.db"
SECONDS = 2.0


def journal(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{body}``: notes an apply, if the agent has made its journal; one that is damaged fails nothing.

    The table is that of ``calm/journal.py``.
    """
    path = os.path.join(run.root.path, JOURNAL)
    if not os.path.isfile(path):
        return Outcome("unchanged", "the agent has no journal yet")
    try:
        _insert(path, (time.time(), run.run["who"], json.dumps(effect["body"])))
    except Exception as error:
        return Outcome("unchanged", f"{path} could not be written: {error}")
    return Outcome("done")


def _insert(path: str, row: tuple[float, str, str]) -> None:
    import sqlite3

    connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=SECONDS)
    try:
        with connection:
            connection.execute("INSERT INTO applies VALUES (?, ?, ?)", row)
    finally:
        connection.close()
