"""The drift of schedules: what the host's scheduler runs, against the jobs that the settings declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calm.drift.model import Context, Json, LeftOut, Piece

if TYPE_CHECKING:
    from calm.settings import Settings

PREFIX = "calm-"


def request(settings: Settings) -> dict[str, Json]:
    """The schedulers' part of the probe's request."""
    names = sorted({*settings.schedules.jobs, "watch"})
    return {"schedules": {"backend": settings.schedules.backend, "names": names, "prefix": PREFIX}}


def compare(context: Context) -> Piece:
    """One resource per schedule; all are left out, with the reason, where nothing can run them."""
    reason = _unusable(context)
    return Piece(left_out=(LeftOut(id="schedules", reason=reason),)) if reason else Piece()


def _unusable(context: Context) -> str | None:
    if context.settings.schedules.backend == "none":
        return 'schedules.backend is "none"'
    if not context.settings.agent.enabled:
        return "the agent is off (agent.enabled), and schedules run the agent"
    if not context.state.get("schedules"):
        return "the probe reported no scheduler"
    return None
