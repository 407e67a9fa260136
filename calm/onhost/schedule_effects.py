"""Changes what the host's schedulers have of ours, and checks that it took.

Standard library only, Python 3.9 or newer. What is not ours is never written, and in a crontab kept byte for
byte.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from typing import Any, Callable

from calm.onhost.files import Root, opened, present, replace_file
from calm.onhost.schedules import (
    CRON_EDGES,
    CRON_MARK,
    UNIT_MARK,
    crontab_bytes,
    environment,
    output,
    windows_folder,
)

_WAIT_SECONDS = 60
_SETTLE_SECONDS = 5.0


class ScheduleError(Exception):
    """A scheduler did not take what it was given. The text says why and what to do."""


def systemd_unit(effect: dict[str, Any], _run: Any) -> str | None:
    """Installs units, enables and starts the main one.

    ``effect``: ``scope`` (system or user), ``folder``, ``files`` [{``name``, ``content``}], ``unit`` (the one
    to enable and start), ``linger`` (the user to linger, or null).
    """
    manager = _manager(effect["scope"])
    for file in effect["files"]:
        _write(effect["folder"], file["name"], file["content"].encode())
    _call([*manager, "daemon-reload"])
    unit = effect["unit"]
    _call([*manager, "reenable", unit])
    _call([*manager, "restart", unit], say=lambda: _last_lines(manager, unit))
    if effect.get("linger"):
        # Not everywhere allowed; then the schedules run while the user is logged in, as plan has said.
        output(["loginctl", "enable-linger", effect["linger"]])
    _settled(manager, unit)
    return None


def systemd_remove(effect: dict[str, Any], _run: Any) -> str | None:
    """Stops, disables and removes units that carry our mark. ``effect``: ``scope``, ``folder``, ``units``."""
    manager = _manager(effect["scope"])
    ours = [unit for unit in effect["units"] if _is_ours(os.path.join(effect["folder"], unit))]
    # Timers first: one could start its service again.
    for unit in sorted(ours, key=lambda name: not name.endswith(".timer")):
        _call([*manager, "disable", "--now", unit])
        os.unlink(os.path.join(effect["folder"], unit))
    _call([*manager, "daemon-reload"])
    for unit in ours:
        output([*manager, "reset-failed", unit])
    return None


def crontab(effect: dict[str, Any], _run: Any) -> str | None:
    """Puts our lines of one schedule into the user's crontab, or takes them out.

    ``effect``: ``command``, ``name``, ``lines`` (none: take them out), ``backup`` (a folder or null).
    """
    command, name, lines = effect["command"], effect["name"], effect["lines"]
    status, before = _crontab_as_stored(command)
    if status == "denied":
        raise ScheduleError("this user may not use cron: see cron.allow and cron.deny in crontab(1)")
    after = merged(before, name, [line.encode("utf-8", "surrogateescape") for line in lines])
    if after == before:
        return "unchanged"
    if effect.get("backup") and before and not CRON_MARK.search(before):
        _write(effect["backup"], f"crontab.{int(time.time())}.bak", before, mode=0o600)
    _call([command, "-"], stdin=after)
    if _crontab_as_stored(command)[1].rstrip() != after.rstrip():
        _call([command, "-"], stdin=before)
        raise ScheduleError("cron did not store the crontab as it was given; the old one was put back")
    return None


def _crontab_as_stored(command: str) -> tuple[str, bytes]:
    """As :func:`crontab_bytes`, but with the bytes that lie there.

    Debian's ``crontab -l`` prints a carriage return as the two characters ``\\r`` (cron 3.0pl1-162), so that
    its output cannot be written back. What ``crontab -e`` gives its editor is unchanged; ours just copies it.
    """
    status, text = crontab_bytes(command)
    if rb"\r" not in text:
        return status, text
    with tempfile.TemporaryDirectory(prefix="calm-") as folder:
        editor, copy = os.path.join(folder, "editor"), os.path.join(folder, "copy")
        with open(editor, "w", encoding="utf-8") as file:
            file.write(f'cat "$1" > {shlex.quote(copy)}\n')
        with_editor = {"VISUAL": f"sh {shlex.quote(editor)}", "EDITOR": f"sh {shlex.quote(editor)}"}
        _call([command, "-e"], more=with_editor)
        with open(copy, "rb") as stored:
            return status, stored.read()


def merged(text: bytes, name: str, lines: list[bytes]) -> bytes:
    """The crontab with these lines as the only ones of ours called ``name``, in one block with our others.

    All that is not ours stays byte for byte and in its order; only a last line without an end gets one, where
    our block comes after it, since cron ignores such a line.
    """
    kept: list[bytes] = []
    ours: list[tuple[bytes, bytes]] = []
    place = None
    for line in _lines(text):
        mark = CRON_MARK.search(line)
        if mark is None and line.strip() not in CRON_EDGES:
            kept.append(line)
            continue
        place = len(kept) if place is None else place
        if mark is not None and mark[1] != name.encode():
            ours.append((mark[1], line.rstrip(b"\r\n") + b"\n"))
    ours += [(name.encode(), line + b"\n") for line in lines]
    return _with_block(kept, [line for _, line in sorted(ours, key=lambda pair: pair[0])], place)


def _lines(text: bytes) -> list[bytes]:
    """Lines with their ends. Only a newline ends one: a lone carriage return is part of a line to cron."""
    return [line for line in re.split(rb"(?<=\n)", text) if line]


def _with_block(kept: list[bytes], ours: list[bytes], place: int | None) -> bytes:
    if not ours:
        return b"".join(kept)
    at = len(kept) if place is None else place
    if at and not kept[at - 1].endswith(b"\n"):
        kept = [*kept[: at - 1], kept[at - 1] + b"\n", *kept[at:]]
    begin, end = (edge + b"\n" for edge in CRON_EDGES)
    return b"".join([*kept[:at], begin, *ours, end, *kept[at:]])


def launchd(effect: dict[str, Any], _run: Any) -> str | None:
    """Loads a user's agent, or removes it. ``effect``: ``label``, ``folder``, ``content`` or null."""
    domain = f"gui/{os.getuid()}"
    target = f"{domain}/{effect['label']}"
    path = os.path.join(effect["folder"], effect["label"] + ".plist")
    output(["launchctl", "bootout", target])  # it fails where nothing is loaded
    if effect["content"] is None:
        os.unlink(path)
        return None
    _write(effect["folder"], os.path.basename(path), effect["content"].encode())
    _call(["launchctl", "enable", target])
    _call(["launchctl", "bootstrap", domain, path])
    if output(["launchctl", "print", target]) is None:
        raise ScheduleError(f"launchd did not load {path}: see `launchctl print {target}`")
    return None


def task(effect: dict[str, Any], _run: Any) -> str | None:
    """Registers a task of Windows' Task Scheduler, or deletes it.

    ``effect``: ``name`` (with its folder), ``content`` (XML) or null, ``program`` (the argv of schtasks),
    ``translate`` (the argv that turns a path into Windows' form), ``start`` (run it now).
    """
    if effect["content"] is None:
        _schtasks(effect, "/Delete", "/F")
        return None
    with tempfile.TemporaryDirectory(prefix="calm-") as folder:
        path = os.path.join(folder, "task.xml")
        with open(path, "wb") as file:
            file.write(b"\xff\xfe" + effect["content"].replace("\n", "\r\n").encode("utf-16-le"))
        windows = output([*effect["translate"], path])
        if windows is None:
            raise ScheduleError(f"{effect['translate'][0]} could not translate {path} for Windows")
        _schtasks(effect, "/Create", "/XML", windows.strip(), "/F")
    if effect.get("start"):
        _schtasks(effect, "/Run")
    return None


def _schtasks(effect: dict[str, Any], action: str, *more: str) -> None:
    _call([*effect["program"], action, "/TN", effect["name"], *more], cwd=windows_folder())


def _manager(scope: str) -> list[str]:
    return ["systemctl", "--user"] if scope == "user" else ["systemctl"]


def _write(folder: str, name: str, content: bytes, mode: int = 0o644) -> None:
    os.makedirs(folder, exist_ok=True)
    with opened(os.path.realpath(folder)) as held:
        replace_file(held, name, content, mode=mode)


def _is_ours(path: str) -> bool:
    found = present(Root(os.path.dirname(path)), os.path.basename(path))
    return found.data is not None and UNIT_MARK.encode() in found.data


def _call(
    argv: list[str],
    stdin: bytes = b"",
    cwd: str | None = None,
    say: Callable[[], str] | None = None,
    more: dict[str, str] | None = None,
) -> None:
    """Runs a program that has to succeed; what it says of its failure is told."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_WAIT_SECONDS,
            env={**environment(), **(more or {})},
            cwd=cwd,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ScheduleError(f"{argv[0]} could not be run: {error}") from None
    if done.returncode != 0:
        words = say() if say else done.stdout.decode("utf-8", "replace").strip()[-800:]
        raise ScheduleError(f"`{' '.join(argv[:4])}` failed ({done.returncode}): {words}")


def _settled(manager: list[str], unit: str) -> None:
    """Waits until the unit is active and, if it is a service, stays so for a moment."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    steady = 0
    while time.monotonic() < deadline:
        state = (output([*manager, "show", unit, "--property=ActiveState", "--value"]) or "").strip()
        steady = steady + 1 if state == "active" else 0
        if steady == (1 if unit.endswith(".timer") else 4):
            break
        time.sleep(0.15)
    else:
        raise ScheduleError(f"{unit} does not stay active: {_last_lines(manager, unit)}")
    enabled = (output([*manager, "is-enabled", unit]) or "").strip()
    if enabled != "enabled":
        raise ScheduleError(f"{unit} is {enabled or 'not enabled'}: see `{' '.join(manager)} status {unit}`")


def _last_lines(manager: list[str], unit: str) -> str:
    """The last words of a unit, from the journal or else from systemd."""
    user = ["--user"] if "--user" in manager else []
    lines = output(["journalctl", *user, "-u", unit, "-n", "5", "-o", "cat", "--no-pager"]) or ""
    return re.sub(r"\s*\n\s*", " | ", lines.strip())[-800:] or f"see `{' '.join(manager)} status {unit}`"


EFFECTS: dict[str, Callable[[dict[str, Any], Any], str | None]] = {
    "systemd_unit": systemd_unit,
    "systemd_remove": systemd_remove,
    "crontab": crontab,
    "launchd": launchd,
    "task": task,
}
