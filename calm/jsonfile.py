"""Small JSON files that others write now and then and calm reads every few seconds."""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

SETTLED = 2.0
"""Seconds since its last change from which a file's time stamp tells of the next one: some disks count in
whole seconds, and FAT in two."""


def read(path: Path) -> Any:
    """What the file holds, parsed again only once it has changed; not to be altered by who gets it.

    Raises ``OSError`` if it cannot be read and ``ValueError`` if it is no JSON in UTF-8.
    """
    name, found = os.fspath(path), os.stat(path)  # noqa: PTH116
    if time.time() - max(found.st_mtime, found.st_ctime) < SETTLED:
        return _parse(name)
    return _known(name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _parse(name: str) -> Any:
    with open(name, encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)


@lru_cache(maxsize=64)
def _known(name: str, *_stamp: int) -> Any:
    return _parse(name)
