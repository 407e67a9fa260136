"""How long a host may take for the effects of one resource: their own time-outs together, and a margin.

Whatever takes longer is not slow but stuck: a disk that does not answer, a machine that was put to sleep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from calm.drift.model import Effect

MARGIN_SECONDS = 60
"""For the way there and back, and for a host that is busy."""

PLAIN_SECONDS = 30.0
"""For an effect that has nothing to wait for."""

HEAL_SECONDS = 1800
"""For the agent's own turn: it may have to make several containers anew."""

_LONG = {"container": 90.0, "run": 60.0, "lmstudio": 60.0, "wait_healthy": 120.0, "compose": 900.0}
_LONG |= dict.fromkeys(("systemd_unit", "systemd_remove", "crontab", "launchd", "task"), 300.0)
_LONG |= dict.fromkeys(("agent", "agent_remove"), 1800.0)
"""Effects that wait for other programs: what they take at most if they name no time of their own."""


def seconds(effects: Iterable[Effect]) -> int:
    """After how many seconds nobody waits for ``effects`` any more."""
    return MARGIN_SECONDS + math.ceil(sum(map(_longest, effects)))


def _longest(effect: Effect) -> float:
    own = effect.get("deadline_s") or effect.get("timeout_s")
    return float(own) + PLAIN_SECONDS if own else _LONG.get(effect["do"], PLAIN_SECONDS)
