"""Reads what the host's schedulers have of ours. Never writes.

Standard library only, Python 3.9 or newer. Of what is not ours only the fact that it is there is told: a
crontab or a unit may hold a password.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from typing import Any

from calm.onhost.programs import on_path

UNIT_MARK = "[X-Calm]"
CRON_MARK = re.compile(rb"(?:^|\s)CALM_SCHEDULE=([a-z0-9-]+)(?=\s)")
CRON_EDGES = (b"# calm: begin. What is edited down to its end is undone by the next apply.", b"# calm: end.")
TASK_FOLDER = "\\calm\\"

_SYSTEM_UNITS = "/etc/systemd/system"
_LOGIND, _LINGERING = "/run/systemd/users", "/var/lib/systemd/linger"
_WAIT_SECONDS = 20
_SHOWN = (
    "Id,LoadState,UnitFileState,ActiveState,SubState,Result,ExecMainStatus,DropInPaths,NeedDaemonReload,"
    "LastTriggerUSec,NextElapseUSecRealtime,NextElapseUSecMonotonic,ActiveEnterTimestamp"
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "day": 86400, "w": 604800}
_SPAN = re.compile(r"([\d.]+)\s*(us|ms|min|month|s|h|d|day|w|y)s?\b")


def read(request: dict[str, Any], _root: str | None = None) -> dict[str, Any]:
    """What there is of schedulers and of our entries in them.

    ``request`` has ``prefix``, ``names`` and ``backend``. The answer has ``backend_facts``; ``units`` and
    ``user_units`` of systemd, ``crontab``, ``plists`` and ``tasks`` by name; and ``runs``: by schedule's
    name when it ran last, with which result, and when it runs next (seconds since 1970, null if unknown).
    """
    prefix = request.get("prefix", "calm-")
    facts = _facts()
    folders = facts["unit_folders"]
    answer = {
        "backend_facts": facts,
        "units": _units(folders["system"], prefix, ()) if facts["systemd"] else {},
        "user_units": _units(folders["user"], prefix, ("--user",)) if facts["user_manager"] else {},
        "crontab": _crontab(facts["crontab"]),
        "plists": _plists(facts["agents_folder"], prefix) if facts["launchctl"] else {},
        "tasks": _tasks(facts["schtasks"]) if facts["schtasks"] else {},
    }
    return {**answer, "runs": _runs(answer, prefix)}


def output(argv: list[str], **options: Any) -> str | None:
    """What a program prints, or None if it fails, is not there or does not come back."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_WAIT_SECONDS,
            env=environment(),
            check=False,
            **options,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def environment() -> dict[str, str]:
    """Ours, in plain English and UTC, and with the user's systemd in reach as a login would have it."""
    env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    if hasattr(os, "getuid"):
        runtime = f"/run/user/{os.getuid()}"
        if "XDG_RUNTIME_DIR" not in env and os.path.isdir(runtime):
            env["XDG_RUNTIME_DIR"] = runtime
    return env


def _facts() -> dict[str, Any]:
    home = os.path.expanduser("~")
    booted = os.path.isdir("/run/systemd/system")  # sd_booted(3)
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    wsl = _is_wsl()
    schtasks = _schtasks() if wsl else None
    return {
        "system": {"darwin": "Darwin", "win32": "Windows"}.get(sys.platform, "Linux"),
        "uid": os.getuid() if hasattr(os, "getuid") else None,
        "user": os.environ.get("LOGNAME") or os.environ.get("USER"),
        "wsl": wsl,
        "systemd": booted and on_path("systemctl") is not None,
        "user_manager": booted and user_manager_listens(),
        "linger": _lingers() if booted else None,
        "crontab": on_path("crontab"),
        "cron_running": _cron_runs(),
        "launchctl": on_path("launchctl"),
        "schtasks": schtasks,
        "distribution": _distribution() if wsl else None,
        "windows_user": _windows_user() if schtasks else None,
        "unit_folders": {"system": _SYSTEM_UNITS, "user": os.path.join(config, "systemd", "user")},
        "agents_folder": os.path.join(home, "Library", "LaunchAgents"),
    }


def _is_wsl() -> bool:
    try:
        with open("/proc/sys/kernel/osrelease", encoding="utf-8") as file:
            return "microsoft" in file.read().lower()
    except OSError:
        return False


def _schtasks() -> str | None:
    usual = "/mnt/c/Windows/System32/schtasks.exe"
    return on_path("schtasks.exe") or (usual if os.path.exists(usual) else None)


def _distribution() -> str | None:
    """The name that wsl.exe knows this distribution by; over SSH only the path of its root tells."""
    name = os.environ.get("WSL_DISTRO_NAME")
    shown = None if name else output(["wslpath", "-w", "/"])
    found = re.match(r"\\\\wsl(?:\.localhost|\$)\\([^\\]+)", shown.strip()) if shown else None
    return name or (found[1] if found else None)


def _windows_user() -> str | None:
    shown = output(["/mnt/c/Windows/System32/whoami.exe"], cwd="/mnt/c")
    return shown.strip() or None if shown else None


def user_manager_listens() -> bool:
    """Whether this user's systemd takes calls, at the socket where ``systemctl --user`` finds it."""
    runtime = environment().get("XDG_RUNTIME_DIR")
    if not runtime or on_path("systemctl") is None:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as private:
            private.settimeout(_WAIT_SECONDS)
            private.connect(os.path.join(runtime, "systemd", "private"))
    except OSError:
        return False
    return True


def _lingers() -> bool | None:
    """Whether this user's systemd outlives a logout; None where no logind says so.

    It keeps a file for each user of whom that holds (systemd 252, ``login/logind-user.c``).
    """
    import pwd

    if on_path("loginctl") is None or not os.path.isdir(_LOGIND):
        return None
    try:
        name = pwd.getpwuid(os.getuid()).pw_name.replace("\\", "\\\\")
    except KeyError:
        return None
    return os.path.exists(os.path.join(_LINGERING, name)) if name.isascii() else None


def _cron_runs() -> bool | None:
    if not os.path.isdir("/proc/self"):
        return None
    return any(_comm(pid) in ("cron", "crond", "fcron") for pid in os.listdir("/proc") if pid.isdigit())


def _comm(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return None


def _units(folder: str, prefix: str, manager: tuple[str, ...]) -> dict[str, Any]:
    """Our units of one manager: content, whether enabled and active, and how the last run went."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    ours = [name for name in names if name.startswith(prefix) and name.endswith((".service", ".timer"))]
    shown = _shown(ours, manager) if ours else {}
    return {name: _unit(os.path.join(folder, name), shown.get(name, {})) for name in ours}


def _unit(path: str, shown: dict[str, str]) -> dict[str, Any]:
    content = _text(path)
    ours = content is not None and UNIT_MARK in content
    return {
        "path": path,
        "ours": ours,
        "link": os.path.islink(path),
        "content": content if ours else None,
        "enabled": shown.get("UnitFileState") or None,
        "active": shown.get("ActiveState") or None,
        "sub": shown.get("SubState") or None,
        "last_result": shown.get("Result") or None,
        "exit_status": int(shown["ExecMainStatus"]) if shown.get("ExecMainStatus", "").isdigit() else None,
        "last_run": seconds(shown.get("LastTriggerUSec")),
        "next_run": _next(shown),
        "drop_ins": shown.get("DropInPaths", "").split(),
    }


def _shown(names: list[str], manager: tuple[str, ...]) -> dict[str, dict[str, str]]:
    show = ["systemctl", *manager, "show", "--property", _SHOWN]
    text = output([*show, *names]) or ""
    units = [_pairs(block) for block in text.split("\n\n")]
    return {unit["Id"]: unit for unit in units if "Id" in unit}


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def seconds(stamp: str | None) -> float | None:
    """A time as ``systemctl show`` prints it in UTC, ``Thu 2026-11-26 15:40:52 UTC``, in seconds since 1970.

    ``--timestamp=unix`` does not reach the times of timers (systemd 252).
    """
    import calendar

    try:
        return float(calendar.timegm(time.strptime(stamp or "", "%a %Y-%m-%d %H:%M:%S UTC")))
    except ValueError:
        return None


def _next(shown: dict[str, str]) -> float | None:
    real = seconds(shown.get("NextElapseUSecRealtime"))
    span = span_seconds(shown.get("NextElapseUSecMonotonic"))
    if span is not None:
        span += _booted() or 0.0
    return min((time for time in (real, span) if time), default=None)


def span_seconds(text: str | None) -> float | None:
    """A time span of systemd, such as ``1h 2min 3.5s``, in seconds; None for none and for infinity."""
    parts = _SPAN.findall(text or "")
    known = [float(number) * _UNITS[unit] for number, unit in parts if unit in _UNITS]
    return sum(known) if known and len(known) == len(parts) else None


def _booted() -> float | None:
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else None


def crontab_bytes(command: str) -> tuple[str, bytes]:
    """``present``, ``absent`` or ``denied``, and the user's crontab as it is."""
    done = subprocess.run(
        [command, "-l"], capture_output=True, timeout=_WAIT_SECONDS, env=environment(), check=False
    )
    if done.returncode == 0:
        return "present", done.stdout
    return ("absent" if b"no crontab" in done.stderr.lower() else "denied"), b""


def _crontab(command: str | None) -> dict[str, Any] | None:
    if command is None:
        return None
    try:
        status, text = crontab_bytes(command)
    except (OSError, subprocess.SubprocessError):
        return {"status": "denied", "lines": []}
    # A carriage return stays: cron would take it for a part of the command.
    ours = [line for line in text.split(b"\n") if CRON_MARK.search(line)]
    return {
        "status": status,
        "lines": [line.decode("utf-8", "surrogateescape") for line in ours],
    }


def _plists(folder: str, prefix: str) -> dict[str, Any]:
    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(".plist")]
    except OSError:
        return {}
    return {name[: -len(".plist")]: _plist(os.path.join(folder, name)) for name in sorted(names)}


def _plist(path: str) -> dict[str, Any]:
    content = _text(path)
    ours = content is not None and "CALM_SCHEDULE" in content
    label = os.path.basename(path)[: -len(".plist")]
    shown = output(["launchctl", "print", f"gui/{os.getuid()}/{label}"])
    code = re.search(r"last exit code = (\d+)", shown or "")
    return {
        "path": path,
        "ours": ours,
        "content": content if ours else None,
        "loaded": shown is not None,
        "exit_status": int(code[1]) if code else None,
    }


def _tasks(schtasks: str) -> dict[str, Any]:
    """Our folder's tasks. The columns' names are in Windows' language, their order is not."""
    listed = output([schtasks, "/Query", "/FO", "CSV", "/NH"], cwd=windows_folder()) or ""
    import csv

    rows = [row for row in csv.reader(listed.splitlines()) if row and row[0].lower().startswith(TASK_FOLDER)]
    return {row[0][len(TASK_FOLDER) :]: _task(schtasks, row) for row in rows}


def _task(schtasks: str, row: list[str]) -> dict[str, Any]:
    content = output([schtasks, "/Query", "/XML", "/TN", row[0]], cwd=windows_folder())
    return {"ours": "<Source>calm " in (content or ""), "content": content, "status": row[-1]}


def windows_folder() -> str | None:
    """A folder that a Windows program started from WSL can stand in."""
    return "/mnt/c" if os.path.isdir("/mnt/c") else None


def _runs(answer: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What is known of each schedule's runs; cron and Windows in its own language tell nothing."""
    runs: dict[str, Any] = {}
    for units in (answer["units"], answer["user_units"]):
        for unit, facts in units.items():
            name, kind = unit[len(prefix) :].rsplit(".", 1)
            if facts["ours"] and (kind == "timer" or f"{prefix}{name}.timer" not in units):
                runs[name] = _run(facts, units.get(f"{prefix}{name}.service", facts))
    for label, facts in answer["plists"].items():
        if facts["ours"]:
            failed = facts["exit_status"] not in (None, 0)
            runs[label[len(prefix) :]] = {**_NOTHING, "last_result": "failed" if failed else None}
    return runs


_NOTHING = {"last_run": None, "next_run": None, "last_result": None, "exit_status": None}


def _run(main: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    ran = main["last_run"] is not None or main is service
    result = service["last_result"] if ran else None
    exit_status = service["exit_status"] if ran else None
    return {
        "last_run": main["last_run"],
        "next_run": main["next_run"],
        "last_result": result,
        "exit_status": exit_status,
    }
