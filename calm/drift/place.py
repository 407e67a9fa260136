"""What stands where a file of ours should be, and why that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping

from calm.drift.model import Context, Effect, Json, Refusal

FOLDER_MODE = "0755"
"""Of a folder that is made for a document; secrets and backups have folders of their own."""

_PLACE = {
    "folder": ("is a folder where a file is expected", "Move the folder away"),
    "other": ("is no regular file", "Move it away"),
    "unreadable": (
        "cannot be read as a document",
        "Give the user that calm logs in as the right to read and write it",
    ),
    "leads_out": ("lies behind a link that leads out of the root folder", "Remove the link"),
}

_LINK = ("is a symbolic link, and calm does not write through one", "Put the file itself in the link's place")
_READ_ONLY = (
    "lies in a folder that cannot be written to",
    "Give the user that calm logs in as the right to write there",
)
_NO_FOLDER = ("lies in a folder that does not exist", "Make the folder, or correct the path in the settings")
_NO_TEXT = ("is not UTF-8 text", "Move it away, or save it as UTF-8 text")


def refusal_of_place(entry: Mapping[str, Json], *, owned: bool = False) -> Refusal | None:
    """Why what the probe found at a path cannot be merged into or, where it is ``owned``, be replaced."""
    if owned:
        return _refusal(entry, _PLACE.get(entry["status"]))
    if entry["status"] == "file" and entry.get("content") is None:
        return _refusal(entry, _NO_TEXT)
    return _refusal(entry, _LINK if entry["status"] == "link" else _PLACE.get(entry["status"]))


def refusal_to_write(context: Context, entry: Mapping[str, Json]) -> Refusal | None:
    """Why a file that has to change cannot be put into its folder.

    A missing folder is made below the root alone; elsewhere it means a wrong path.
    """
    if entry.get("parent_exists"):
        return None if entry.get("writable") else _refusal(entry, _READ_ONLY)
    return None if _is_below_root(context, entry["path"]) else _refusal(entry, _NO_FOLDER)


def missing_directory(context: Context) -> Refusal | None:
    """Why nothing can be compared where ``docker.directory`` names a folder that is not there.

    To go on would make new passwords beside those of the stack that is to be taken over. A folder below the
    root is made.
    """
    folder, entry = context.settings.docker.directory, context.state["files"].get("document:compose")
    if folder is None or entry is None or context.settings.docker.enabled is False:
        return None
    if entry["parent_exists"] or _is_below_root(context, entry["path"]):
        return None
    return Refusal(
        message=f"docker.directory names {folder}, and there is no such folder on this host.",
        hint="Make the folder, or correct calm.docker.directory; then plan again. Nothing was changed.",
    )


def _is_below_root(context: Context, path: str) -> bool:
    return path.startswith(context.state["root"]["path"].rstrip("/\\") + _separator(path))


def _separator(path: str) -> str:
    return "/" if "/" in path else "\\"


def _refusal(entry: Mapping[str, Json], reason: tuple[str, str] | None) -> Refusal | None:
    if reason is None:
        return None
    what, hint = reason
    return Refusal(message=f"{entry['path']} {what}.", hint=f"{hint}; then plan again.")


def folder_for(entry: Mapping[str, Json]) -> tuple[Effect, ...]:
    """What makes the folder that a file goes to, where there is none."""
    if entry.get("parent_exists"):
        return ()
    folder = entry["path"].replace("\\", "/").rpartition("/")[0]
    return ({"do": "folder", "path": folder or "/", "mode": FOLDER_MODE},)
