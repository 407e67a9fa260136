"""Gates: what has to be seen before a step counts as done, and how it is waited for.

A look says one of three things: it works, not yet, or never (a reason). Waiting looks often at first, 50 ms
apart, and up to four times a second later; what works has to stay so for a moment before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from calm.startup.model import Deadline, StepError

FIRST_WAIT = 0.05
LONGEST_WAIT = 0.1
STEADY_SECONDS = 0.2
"""How long a service has to stay well before it counts."""

CRASHES = 2
"""Restarts by Docker since the start from which a container is not waited for any more."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look saw; ``why`` is the reason it does not work, or does not work yet."""

    state: Literal["well", "waiting", "failed"]
    why: str = ""


WELL = Look(state="well")


def passed(look: Callable[[], Look], deadline: Deadline, *, steady: float = STEADY_SECONDS) -> None:
    """Waits until ``look`` is well and stays so. Raises :class:`StepError` with the reason."""
    wait, well_since = FIRST_WAIT, None
    while True:
        seen = look()
        now = time.monotonic()
        if seen.state == "well":
            well_since = now if well_since is None else well_since
            if now - well_since >= steady:
                return
        elif well_since is not None:
            raise StepError(f"it was well for {now - well_since:.1f} s and then not any more: {seen.why}")
        elif seen.state == "failed":
            raise StepError(seen.why)
        if deadline.left == 0:
            raise StepError(f"the time is up: {seen.why or 'it was not well for long enough'}")
        time.sleep(min(wait, FIRST_WAIT if well_since is not None else wait, max(deadline.left, 0.01)))
        wait = min(wait * 1.3, LONGEST_WAIT)


def healthy(container: Mapping[str, Any], *, restarts: int, once: bool) -> Look:
    """What the engine's inspection of a container says.

    ``restarts`` is Docker's count of restarts when it was started, ``once`` whether it has a task to finish
    rather than a service to run: then its gate is that it exited with 0.
    """
    state = container["State"]
    if state["Status"] in ("exited", "dead"):
        return WELL if once and state["ExitCode"] == 0 else Look(state="failed", why=_ended(container))
    if container.get("RestartCount", 0) - restarts >= CRASHES or _crashes_slowly(container, restarts):
        why = f"{_ended(container)}, and Docker starts it again and again"
        return Look(state="failed", why=why)
    if state["Status"] != "running":
        return Look(state="waiting", why=f"its container is {state['Status']}")
    return Look(state="waiting", why="its task is not finished") if once else _by_health(state)


def _by_health(state: Mapping[str, Any]) -> Look:
    health = state.get("Health") or {}
    match health.get("Status"):
        case None | "none" | "healthy":
            return WELL
        case "unhealthy":
            return Look(state="failed", why=f"its health check fails: {_last_check(health)}")
        case _:
            return Look(state="waiting", why=f"its health check has not passed yet: {_last_check(health)}")


def _crashes_slowly(container: Mapping[str, Any], restarts: int) -> bool:
    """It has crashed once, and waits for Docker to start it again."""
    return bool(container["State"]["Status"] == "restarting" and container.get("RestartCount", 0) > restarts)


def _ended(container: Mapping[str, Any]) -> str:
    state = container["State"]
    if state.get("OOMKilled"):
        limit = container.get("HostConfig", {}).get("Memory") or 0
        return f"it was killed for want of memory; its limit is {limit // 2**20} MB"
    said = f": {state['Error']}" if state.get("Error") else ""
    return f"it ended with exit code {state['ExitCode']}{said}"


def _last_check(health: Mapping[str, Any]) -> str:
    log = health.get("Log") or [{}]
    said = " ".join(str(log[-1].get("Output") or "").split())
    return said[-300:] or "it has said nothing yet"
