"""What the agent has to say in a plan: open findings, a pause, and a stack that `calm down` has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calm.drift.model import Action, Change, Context, Origin, Piece, Resource

if TYPE_CHECKING:
    from calm.settings import Settings

DOWN = "document:down.json"
"""Written by `calm down`, obeyed by heal and watch, taken away by `calm up` and by apply."""


def request(settings: Settings) -> dict[str, Any]:  # noqa: ARG001
    """Ask for the agent's own files."""
    return {
        "documents": {DOWN: {"path": "down.json"}},
        "healing": {"journal": "journal.db", "pause": "paused.json"},
    }


def compare(context: Context) -> Piece:
    """A stack that is wanted stopped is drift, since apply starts it; findings are notes."""
    healing = context.state.get("healing") or {}
    return Piece(resources=_wanted(context), notes=tuple(_notes(healing)))


def findings(context: Context) -> tuple[dict[str, Any], ...]:
    """The findings that are open, as the journal has them."""
    return tuple((context.state.get("healing") or {}).get("findings") or ())


def _wanted(context: Context) -> tuple[Resource, ...]:
    entry = (context.state.get("files") or {}).get(DOWN) or {"status": "absent"}
    if entry["status"] != "file":
        return ()
    remove = {"do": "remove_file", "path": entry["path"], "expect": entry["sha256"], "backup": False}
    return (
        Resource(
            id=DOWN,
            kind="document",
            action=Action.REMOVE,
            origin=Origin.HOST,
            changes=(Change(path="stack", before="wanted stopped", after="wanted", origin=Origin.HOST),),
            effects=(remove,),
            note="`calm down` has stopped this host's stack; apply starts it again",
        ),
    )


def _notes(healing: dict[str, Any]) -> list[str]:
    notes = [f"finding: {one['rule']} on {one['target']}" for one in healing.get("findings") or ()]
    if healing.get("error"):
        notes.append(str(healing["error"]))
    if healing.get("paused"):
        notes.append("healing is paused; `calm resume` on the host ends that")
    return notes
