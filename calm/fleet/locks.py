"""``calm unlock``: who holds each host's lock, and freeing it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from calm.fleet.board import Board
from calm.fleet.targets import Target


def held(target: Target) -> dict[str, Mapping[str, Any] | None]:
    """The lock of every host that could be read; ``None`` where nobody holds it."""
    from calm.fleet import runner

    result = runner.look(target, Board())
    return {name: (run.state or {}).get("lock") for name, run in result.board.hosts.items()}


def told(lock: Mapping[str, Any] | None) -> str:
    """One line about a lock."""
    if lock is None:
        return "not locked"
    since = f" since {max(0, round(time.time() - lock['created']))} s" if lock.get("created") else ""
    if lock.get("working"):
        return f"{lock['who']} is at work there right now{since}"
    return f"locked by {lock['who']}{since}"


def free(target: Target, locks: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """Free every lock in ``locks``; why it failed, by host.

    A host where somebody is at work is given a few seconds to end its step; it is not taken from them.
    """
    from calm.fleet import runner

    answers = runner.effects(
        target,
        lambda settings: {
            "schema": 1,
            "root": settings.root,
            "run": {"id": "unlock", "who": "calm unlock"},
            "effects": [{"do": "unlock", "force": True}],
        },
    )
    return {name: said for name, (done, said) in answers.items() if locks.get(name) and not done}
