"""The agent on a host: there or not, of this release or of another, whole or broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calm.drift.model import (
    Action,
    Change,
    Context,
    Effect,
    LeftOut,
    Origin,
    Piece,
    Resource,
    origin_of,
)

if TYPE_CHECKING:
    from calm.settings import Settings

FOLDER = "agent"


def request(settings: Settings) -> dict[str, Any]:
    """Ask which agent is there, and which Python could run one."""
    return {"agent": {"folder": FOLDER, "python": settings.agent.python}} if settings.agent.enabled else {}


def compare(context: Context) -> Piece:
    """Install, upgrade or repair the agent; say so where no Python can run it."""
    if not context.settings.agent.enabled:
        return Piece(left_out=(LeftOut(id="agent", reason="agent.enabled is off"),))
    found = context.state.get("agent") or {}
    if found.get("python") is None:
        reason = "the agent needs Python 3.11 or newer there; install it, or name it as agent.python"
        return Piece(left_out=(LeftOut(id="agent", reason=reason),))
    wanted = context.state["controller"]["release"]
    changes = _changes(found, context.record.get("agent"), wanted)
    action = _action(found, changes)
    effects = (_install(found, wanted),) if action is not Action.NONE else ()
    origin = changes[0].origin if changes else None
    resource = Resource(
        id="agent", kind="agent", action=action, origin=origin, changes=changes, effects=effects
    )
    return Piece(resources=(resource,), record={"agent": {"release": wanted}})


def usable(context: Context) -> bool:
    """Whether this host will have an agent once everything is applied."""
    return bool(context.settings.agent.enabled and (context.state.get("agent") or {}).get("python"))


def _changes(found: dict[str, Any], recorded: dict[str, Any] | None, wanted: str) -> tuple[Change, ...]:
    installed = found.get("release")
    if installed != wanted:
        origin = origin_of(recorded=(recorded or {}).get("release"), before=installed, after=wanted)
        return (Change(path="release", before=_short(installed), after=_short(wanted), origin=origin),)
    if found.get("broken"):
        return (Change(path="installation", before=found["broken"], after="whole", origin=Origin.HOST),)
    return ()


def _action(found: dict[str, Any], changes: tuple[Change, ...]) -> Action:
    if not changes:
        return Action.NONE
    return Action.UPDATE if found.get("release") else Action.CREATE


def _install(found: dict[str, Any], release: str) -> Effect:
    return {"do": "agent", "folder": FOLDER, "release": release, "python": found["python"]["path"]}


def _short(release: str | None) -> str | None:
    return release[:12] if release else None
