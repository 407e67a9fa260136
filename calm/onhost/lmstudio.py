"""Where LM Studio keeps its settings, which version it is, and whether it runs. Starts and writes nothing.

LM Studio's own tools write the file ``.lmstudio-home-pointer`` when they look for the home folder, and most
commands of ``lms`` start LM Studio; so the same rule is followed here without either (lmstudio-js,
``findLMStudioHome.ts``). The files' format is no stable interface: what cannot be read is reported as absent.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from typing import Any, Callable, Iterator, NamedTuple

PROGRAMS = (
    "*/LM Studio/lm-studio",
    "*/.mount_LM-Stu*/lm-studio",
    "/usr/bin/lm-studio",
    "*/LM Studio.app/Contents/MacOS/LM Studio",
    "*/llmster/*/llmster",
    "*/LM Studio.exe",
    "*/llmster.exe",
)
"""The main programs by the path of their executable, with forward slashes."""


class Process(NamedTuple):
    """One process; ``parent`` 0 and ``arguments`` empty where the system does not tell."""

    pid: int
    parent: int
    executable: str
    arguments: str


def read(part: dict[str, Any], entry: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The ``lmstudio`` part of the answer; ``entry`` reads a document as for ``files``."""
    home = find_home(part.get("home"))
    new, old = os.path.join(home, "settings.json"), old_settings()
    internal = os.path.join(home, ".internal")
    marked = os.path.exists(os.path.join(internal, "old-settings-migrated.marker"))
    is_new, is_old = os.path.isfile(new) or marked, os.path.isfile(old)
    extra = [*(part.get("executables") or ()), *installed(home)]
    roots = instances(home, extra)
    pids = None if roots is None else sorted(one.pid for one in roots)
    there = os.path.isdir(home) or is_old
    return {
        "status": "found" if there else "absent",
        "home": home,
        "generation": {(1, 1): "both", (1, 0): "new", (0, 1): "old"}.get((int(is_new), int(is_old)), "none"),
        "settings": entry(old if is_old and not is_new else new),
        "server": entry(os.path.join(internal, "http-server-config.json")),
        "version": _version(internal),
        "running": None if pids is None else bool(pids),
        "pids": pids or [],
        "executables": [path for path in extra if os.path.exists(path)],
        "warning": _warning(new, old) if os.path.isfile(new) and is_old else None,
    }


def find_home(given: str | None = None) -> str:
    """LM Studio's home folder: as given, where its pointer says, the old place, or the usual one."""
    if given:
        return os.path.abspath(os.path.expanduser(given))
    return home_of_user(os.path.expanduser("~"))


def home_of_user(user: str) -> str:
    """LM Studio's home by the home folder of its user."""
    user = os.path.realpath(user)
    pointed = _text(os.path.join(user, ".lmstudio-home-pointer")).strip()
    if pointed:
        return pointed
    old = os.path.join(user, ".cache", "lm-studio")
    return old if os.path.isdir(old) else os.path.join(user, ".lmstudio")


def old_settings() -> str:
    """Where versions before the move to the home folder kept their settings."""
    user = os.path.expanduser("~")
    if os.name == "nt":
        base = os.environ.get("APPDATA") or os.path.join(user, "AppData", "Roaming")
    elif sys.platform == "darwin":
        base = os.path.join(user, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(user, ".config")
    return os.path.join(base, "LM Studio", "settings.json")


def _warning(new: str, old: str) -> str:
    return f"LM Studio has settings in two places; {new} is taken, {old} is left as it is"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20)
    except (OSError, ValueError):
        return ""


def _json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _version(internal: str) -> str | None:
    """The last version that ran; the key's spelling is LM Studio's."""
    version = _json(os.path.join(internal, "historical-version-info.json")).get("lastRecorderdAppVersion")
    return str(version) if version else None


def installed(home: str) -> list[str]:
    """The executables that LM Studio noted when it was installed."""
    return [location["path"] for location in locations(home)]


def locations(home: str) -> list[dict[str, Any]]:
    """``path``, ``argv`` and ``cwd`` as LM Studio noted them, of the app and then of the daemon."""
    names = ("app-install-location.json", "llmster-install-location.json")
    found = (_json(os.path.join(home, ".internal", name)) for name in names)
    return [location for location in found if isinstance(location.get("path"), str)]


def instances(home: str, extra: list[str]) -> list[Process] | None:
    """The root processes of the LM Studio that lives in ``home``; None where they cannot be listed."""
    found = processes(extra)
    if found is None:
        return None
    noted = _json(os.path.join(home, ".internal", "http-server.json")).get("pid")
    return [one for one in roots(found, extra) if one.pid == noted or _lives_in(one, home)]


def roots(found: list[Process], extra: list[str]) -> list[Process]:
    """The processes that are an instance of their own, whoever's.

    A helper has ``--type=`` in its arguments or an LM Studio for its parent.
    """
    ours = {one.pid: one for one in found if _is_lmstudio(one.executable, extra)}
    return [one for one in ours.values() if one.parent not in ours and "--type=" not in one.arguments]


def _lives_in(process: Process, home: str) -> bool:
    """By where its program lies, else by its user's home folder; one that tells neither may live here."""
    real = os.path.realpath(home)
    if process.executable.startswith(real + os.sep) or process.executable in installed(home):
        return True
    user = environment(process.pid).get("HOME")
    return user is None or os.path.realpath(home_of_user(user)) == real


def environment(pid: int) -> dict[str, str]:
    """A process's environment; empty where it may not be read."""
    pairs = (entry.partition("=") for entry in _text(f"/proc/{pid}/environ").split("\0") if entry)
    return {name: value for name, _, value in pairs}


def _is_lmstudio(executable: str, extra: list[str]) -> bool:
    path = executable.replace("\\", "/")
    return executable in extra or any(fnmatch.fnmatchcase(path, program) for program in PROGRAMS)


def processes(extra: list[str], proc: str = "/proc") -> list[Process] | None:
    """The processes of this host that may be looked at, those of LM Studio among them."""
    if os.path.isdir(f"{proc}/self"):
        return list(_of_proc(proc, extra))
    try:
        return list(_of_tasklist() if os.name == "nt" else _of_ps())
    except OSError:
        return None


def _of_proc(proc: str, extra: list[str]) -> Iterator[Process]:
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                executable = os.readlink(f"{proc}/{name}/exe").replace(" (deleted)", "")
                if _is_lmstudio(executable, extra):
                    arguments, parent = _arguments(f"{proc}/{name}"), _parent(f"{proc}/{name}")
                    # One that is ending has given back its arguments, and a helper would look like a root.
                    if arguments.strip() and parent is not None:
                        yield Process(int(name), parent, executable, arguments)
            except OSError:
                continue  # it ended, or is another user's


def _parent(folder: str) -> int | None:
    fields = _text(f"{folder}/stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else None


def _arguments(folder: str) -> str:
    return _text(f"{folder}/cmdline").replace("\0", " ")


def _of_ps() -> Iterator[Process]:
    said = _output(["ps", "-axo", "pid=,ppid=,comm="])
    arguments = {
        line.split(None, 1)[0]: line for line in _output(["ps", "-axo", "pid=,args="]) if line.strip()
    }
    for line in said:
        words = line.split(None, 2)
        if len(words) == 3:
            yield Process(int(words[0]), int(words[1]), words[2].strip(), arguments.get(words[0], ""))


def _of_tasklist() -> Iterator[Process]:
    """Windows tells names alone this way; the agent there looks closer."""
    for line in _output(["tasklist", "/FO", "CSV", "/NH"]):
        words = line.strip().strip('"').split('","')
        if len(words) > 1 and words[1].isdigit():
            yield Process(int(words[1]), 0, "/" + words[0], "")


def _output(argv: list[str]) -> list[str]:
    import subprocess

    done = subprocess.run(argv, capture_output=True, timeout=10, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").splitlines()
