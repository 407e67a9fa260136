"""Taking and freeing the lock of a host."""

from __future__ import annotations

from typing import Any

from calm.onhost import lock as locks
from calm.onhost.run import Outcome, Run


def lock(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{lease_s: 120, force: false}``: takes the lease or renews it; with ``force`` from whoever has it."""
    lease_s = float(effect.get("lease_s") or locks.LEASE_SECONDS)
    locks.take(run.root, run.run, lease_s, force=bool(effect.get("force")))
    return Outcome("done")


def unlock(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{force: false}``: gives the lease back; with ``force`` whosever it is."""
    freed = locks.free(run.root, run.run, force=bool(effect.get("force")))
    return Outcome("done" if freed else "unchanged")
