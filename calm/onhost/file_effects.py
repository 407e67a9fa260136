"""Folders and documents: written in one step, compared first, never through a link."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from calm.onhost import backup_effects
from calm.onhost.errors import RefusedError
from calm.onhost.files import (
    Place,
    Present,
    look,
    nearest_folder,
    opened,
    parent,
    replace_file,
    same_file,
    set_mode,
)
from calm.onhost.masking import PLACEHOLDER, Masker, unmask
from calm.onhost.run import Outcome, Run

FOLDER_MODE = 0o755
FILE_MODE = 0o644


def folder(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{path, mode}``: makes a folder and those above it; puts its mode right. A link is refused."""
    place = _from_what_is_there(run.root.locate(effect["path"]))
    mode = bits(effect.get("mode"), FOLDER_MODE)
    with _parent_made(place) as above:
        found = above.stat(place.name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise RefusedError(f"{place.path} is not a folder: move it away")
        with_mode = found is not None and stat.S_IMODE(found.st_mode)
        below = above.down(place.name, make=mode)
        try:
            if effect.get("mode") is not None or found is None:
                below.chmod(mode)
        finally:
            below.close()
    same = found is not None and (effect.get("mode") is None or with_mode == mode)
    return Outcome("unchanged" if same else "done")


def write(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{path, content, mode, expect, backup, replace_link, keep, unmask, unmask_from}``.

    ``expect`` is the SHA-256 or else the status that the plan saw, or None for whatever. ``keep`` is for a
    file that somebody else owns: mode and owner stay, a link is refused. ``unmask`` puts the secrets of the
    present file (and of the files in ``unmask_from``) back where the content has placeholders.
    """
    place = run.root.locate(effect["path"])
    with _parent_made(place) as above:
        now = look(above, place.name)
        _refuse_shape(place, now, effect)
        data = _content(run, effect, now, place)
        mode, owner = _mode_and_owner(effect, now)
        if now.data == data and now.mode == mode:
            return Outcome("unchanged", sha256=now.sha256)
        _refuse_changed(place, now, effect.get("expect"))
        if now.data == data:
            set_mode(above, place.name, mode)
            return Outcome("done", "mode set", sha256=now.sha256)
        kept = backup_effects.keep(run, place, now) if effect.get("backup", True) else None
        if not same_file(now.found, above.stat(place.name)):
            raise RefusedError(_changed(place))
        replace_file(above, place.name, data, mode=mode, owner=owner)
        return Outcome("done", backup=kept, sha256=look(above, place.name).sha256)


def merge_json(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{path, values}``: sets keys in a JSON file whose owner has just rewritten it; every other stays.

    For LM Studio, which writes its settings when it quits: what plan saw is no longer what is there.
    """
    place = run.root.locate(effect["path"])
    with _parent_made(place) as above:
        now = look(above, place.name)
        _refuse_shape(place, now, {"keep": True})
        whole = _object(place, now)
        merged = _deeply(whole, effect["values"])
        if merged == whole:
            return Outcome("unchanged", sha256=now.sha256)
        mode, owner = _mode_and_owner({"keep": True}, now)
        kept = backup_effects.keep(run, place, now)
        data = (json.dumps(merged, indent=2, ensure_ascii=False) + "\n").encode()
        replace_file(above, place.name, data, mode=mode, owner=owner)
        return Outcome("done", backup=kept)


def _object(place: Place, now: Present) -> dict[str, Any]:
    try:
        found = json.loads(now.data or b"")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RefusedError(f"{place.path} holds no JSON object any more: calm does not write over it")
    return found


def _deeply(whole: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    out = dict(whole)
    for key, value in values.items():
        old = out.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        out[key] = _deeply(old, value) if both and isinstance(old, dict) else value
    return out


def remove_file(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{path, expect, backup}``: removes a file, after a backup. A folder is refused."""
    place = run.root.locate(effect["path"])
    try:
        with parent(place) as above:
            now = look(above, place.name)
            if now.status == "absent":
                return Outcome("unchanged")
            if now.status in ("folder", "other"):
                raise RefusedError(f"{place.path} is not a file: calm does not remove it")
            _refuse_changed(place, now, effect.get("expect"))
            kept = backup_effects.keep(run, place, now) if effect.get("backup", True) else None
            above.unlink(place.name)
            above.sync()
            return Outcome("done", backup=kept)
    except FileNotFoundError:
        return Outcome("unchanged")


def _from_what_is_there(place: Place) -> Place:
    """Outside of the root a folder is made only when it is asked for; then with all that lead to it."""
    base = nearest_folder(place.base)
    if place.below or base == place.base:
        return place
    between = os.path.relpath(place.base, base).split(os.sep)
    return place._replace(base=base, parts=(*between, place.name))


def bits(mode: Any, default: int) -> int:
    """Permission bits from ``"0644"``, or from a number."""
    if mode is None:
        return default
    return int(mode, 8) if isinstance(mode, str) else int(mode)


def _parent_made(place: Place) -> Any:
    """The folder above; made only below the root, since elsewhere a missing folder means a wrong path."""
    if place.below or len(place.parts) > 1:
        return parent(place, make=FOLDER_MODE)
    if not os.path.isdir(place.base):
        raise RefusedError(f"the folder {place.base} does not exist: make it, or correct the settings")
    return opened(place.base)


def _refuse_shape(place: Place, now: Present, effect: dict[str, Any]) -> None:
    if now.status in ("folder", "other"):
        raise RefusedError(f"{place.path} is not a file: move it away")
    if now.status == "link" and (effect.get("keep") or not effect.get("replace_link", True)):
        raise RefusedError(
            f"{place.path} is a symbolic link, which calm does not follow: name {now.target} itself"
        )
    if now.status == "unreadable" and effect.get("keep"):
        raise RefusedError(f"no right to read {place.path}: give this user the right, or run as its owner")


def _refuse_changed(place: Place, now: Present, expect: str | None) -> None:
    """An empty file counts as absent."""
    if expect is None:
        return
    absent = now.status == "absent" or now.data == b""
    if not (absent if expect == "absent" else expect in (now.sha256, now.status)):
        raise RefusedError(_changed(place))


def _changed(place: Place) -> str:
    return f"{place.path} has changed since the plan was made: look at a new plan and apply again"


def _mode_and_owner(effect: dict[str, Any], now: Present) -> tuple[int, tuple[int, int] | None]:
    if effect.get("keep") and now.found is not None:
        return stat.S_IMODE(now.found.st_mode), (now.found.st_uid, now.found.st_gid)
    uid, gid = effect.get("uid"), effect.get("gid")
    owner = (int(uid), int(gid if gid is not None else uid)) if uid is not None else None
    return bits(effect.get("mode"), FILE_MODE), owner


def _content(run: Run, effect: dict[str, Any], now: Present, place: Place) -> bytes:
    content = str(effect["content"])
    if effect.get("unmask") and PLACEHOLDER in content:
        masker = Masker(effect.get("digest_key") or run.digest_key, run.masker.known())
        sources = [now.data, *(_source(run, path) for path in effect.get("unmask_from") or ())]
        originals: dict[str, str] = {}
        for text in (data.decode("utf-8", "replace") for data in sources if data):
            originals.update(masker.text(text)[1])
        content = unmask(content, originals, place.path)
    return content.encode("utf-8")


def _source(run: Run, path: str) -> bytes | None:
    place = run.root.locate(path)
    with parent(place) as above:
        return look(above, place.name).data
