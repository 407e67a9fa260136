"""Which hosts the last apply left unfinished: what ``calm apply --retry-failed`` takes up again.

Kept on the controller, per inventory, under ``$XDG_STATE_HOME/calm`` (``~/.local/state/calm``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from calm.atomic import replace
from calm.fleet.targets import Target


def failed(target: Target) -> frozenset[str]:
    """Names of the hosts of this inventory that the last apply failed on or did not come to the end of."""
    try:
        return frozenset(json.loads(_file(target).read_text(encoding="utf-8"))["hosts"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def remember(target: Target, *, tried: Iterable[str], left: Iterable[str]) -> None:
    """Note that of the hosts ``tried`` those in ``left`` are not done; others stay as they were noted."""
    names = (failed(target) - frozenset(tried)) | frozenset(left)
    file = _file(target)
    if not names and not file.exists():
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(file, json.dumps({"schema": 1, "inventory": str(target.inventory), "hosts": sorted(names)}))


def _file(target: Target) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    name = hashlib.sha256(str(target.inventory).encode()).hexdigest()[:16]
    return Path(base).expanduser() / "calm" / "unfinished" / f"{name}.json"
