"""What stood there before, and the record of what apply did."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any

from calm.onhost.errors import RefusedError
from calm.onhost.files import Folder, Place, Present, look, opened, parent, replace_file
from calm.onhost.run import Outcome, Run

BACKUPS = "backups"
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
RECORD = "record.json"


def keep(run: Run, place: Place, now: Present) -> str | None:
    """Copies a file to ``backups/NAME.TIME.bak`` unless a copy of this content is there; the copy's path."""
    if not now.data:
        return None
    name = _name(place)
    with opened(run.root.path, (BACKUPS,), make=PRIVATE_FOLDER) as folder:
        for copy in _copies(folder, name):
            if look(folder, copy).data == now.data:
                return os.path.join(folder.path, copy)
        copy = _free(folder, name)
        replace_file(folder, copy, now.data, mode=PRIVATE_FILE)
        return os.path.join(folder.path, copy)


def _name(place: Place) -> str:
    """The file's name; outside of the root with a hash of its path, since names repeat there."""
    if place.below:
        return place.name
    return f"{place.name}.{hashlib.sha256(place.path.encode()).hexdigest()[:8]}"


def _copies(folder: Folder, name: str) -> list[str]:
    """The backups of a file, the oldest first."""
    prefix, suffix = name + ".", ".bak"
    middle = [
        (copy[len(prefix) : -len(suffix)], copy)
        for copy in folder.names()
        if copy.startswith(prefix) and copy.endswith(suffix)
    ]
    return [copy for stamp, copy in sorted(middle) if re.fullmatch(r"\d{8}T\d{12}Z", stamp)]


def _free(folder: Folder, name: str) -> str:
    stamp, now = time.strftime("%Y%m%dT%H%M%S", time.gmtime()), time.time_ns()
    copy = f"{name}.{stamp}{now % 1_000_000_000 // 1000:06d}Z.bak"
    return copy if folder.stat(copy) is None else _free(folder, name)


def restore(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{path, mark}``: puts the oldest backup back, which is what stood there before calm came.

    With ``mark`` the file is calm's own: if even the oldest begins with that, or there is none, it goes. What
    comes back then may hold passwords, and its old mode is not known: it comes back for its owner alone.
    """
    place = run.root.locate(effect["path"])
    with opened(run.root.path, (BACKUPS,), make=PRIVATE_FOLDER) as folder:
        copies = _copies(folder, _name(place))
        data = look(folder, copies[0]).data if copies else None
    if "mark" in effect and (data is None or data.startswith(effect["mark"].encode())):
        from calm.onhost.file_effects import remove_file

        return remove_file(run, {"path": effect["path"]})
    if data is None:
        return Outcome("unchanged", "there is no backup of it")
    with parent(place) as above:
        now = look(above, place.name)
        if now.status not in ("file", "absent"):
            raise RefusedError(f"{place.path} is not a file: move it away")
        if now.data == data:
            return Outcome("unchanged")
        keep(run, place, now)
        mode, owner = (now.mode, (now.found.st_uid, now.found.st_gid)) if now.found else (None, None)
        if "mark" in effect:
            mode = PRIVATE_FILE
        replace_file(above, place.name, data, mode=0o644 if mode is None else mode, owner=owner)
    return Outcome("done")


def backup_generation(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{documents: [path] or {id: path}, settings, generation}``: keeps what this generation looks like.

    Each document gets a backup, and ``backups/generation-N.json`` says which, with the (masked) settings.
    """
    documents = effect.get("documents") or {}
    paths = documents if isinstance(documents, dict) else {path: path for path in documents}
    kept = {name: _kept(run, path) for name, path in paths.items()}
    number = effect.get("generation") or int(read_record(run).get("generation") or 0) + 1
    whole = {"schema": 1, "generation": number, "at": time.time(), "settings": effect.get("settings")}
    text = json.dumps({**whole, "documents": kept}, indent=2, sort_keys=True) + "\n"
    with opened(run.root.path, (BACKUPS,), make=PRIVATE_FOLDER) as folder:
        replace_file(folder, f"generation-{number}.json", text.encode(), mode=PRIVATE_FILE)
    return Outcome("done", generation=number)


def _kept(run: Run, path: str) -> dict[str, Any]:
    place = run.root.locate(path)
    try:
        with parent(place) as above:
            now = look(above, place.name)
    except FileNotFoundError:
        now = Present("absent")
    return {"path": place.path, "sha256": now.sha256, "backup": keep(run, place, now)}


def record(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{values, replace}``: puts each key of ``values`` into the record; None takes the key away.

    With ``replace`` the values are the whole record. An unreadable record is backed up and begun anew.
    """
    old = {} if effect.get("replace") else read_record(run)
    whole = {key: value for key, value in {**old, **effect["values"]}.items() if value is not None}
    data = (json.dumps({"schema": 1, **whole}, indent=2, sort_keys=True) + "\n").encode()
    with opened(run.root.path) as folder:
        now = look(folder, RECORD)
        if now.data == data:
            return Outcome("unchanged")
        if now.data and not read_record(run):
            keep(run, run.root.locate(RECORD), now)
        replace_file(folder, RECORD, data, mode=PRIVATE_FILE)
    return Outcome("done")


def read_record(run: Run) -> dict[str, Any]:
    """The record, empty if there is none or it cannot be read."""
    with opened(run.root.path) as folder:
        data = look(folder, RECORD).data
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
