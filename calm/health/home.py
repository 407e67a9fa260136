"""What LM Studio's files say: where its home is, which port it serves, what is installed. Only reads.

The files have no stable format (their makers say so), so every one may be missing or say something else;
what cannot be read is ``None``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calm import jsonfile

POINTER = ".lmstudio-home-pointer"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, kw_only=True)
class Home:
    """LM Studio's home and what its files say.

    ``host`` and ``port`` are where its HTTP API is to be asked; ``control_pid`` and ``control_port`` the
    running instance's own channel, of ``http-server.json``. ``executables`` are those of the install-location
    files. ``jit_ttl_seconds`` is after how long an idle model that came by itself leaves again.
    """

    path: Path
    exists: bool
    version: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    control_pid: int | None = None
    control_port: int | None = None
    executables: tuple[str, ...] = ()
    jit_ttl_seconds: float | None = None

    @property
    def url(self) -> str | None:
        """The base of the HTTP API, if its port is known."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}" if self.port else None


def find(configured: str | None = None, *, user_home: Path | None = None) -> Path:
    """LM Studio's home: the configured one, else by LM Studio's own rule.

    That rule (``findLMStudioHome.ts`` of lmstudio-js) also writes the pointer file; this does not.
    """
    base = user_home or Path.home()
    if configured:
        return Path(configured).expanduser()
    pointer = _text(base / POINTER)
    if pointer and pointer.strip():
        return Path(pointer.strip())
    cache = base / ".cache" / "lm-studio"
    return cache if cache.is_dir() else base / ".lmstudio"


def read(path: Path, *, user_home: Path | None = None, default_port: int | None = None) -> Home:
    """What the home at ``path`` says; ``default_port`` is used where it names no port of the API."""
    internal = path / ".internal"
    server = _json(internal / "http-server-config.json")
    control = _json(internal / "http-server.json")
    settings = _json(path / "settings.json") or _json(_old_settings(user_home or Path.home()))
    interface = server.get("networkInterface")
    return Home(
        path=path,
        exists=internal.is_dir(),
        version=_version(_json(internal / "historical-version-info.json")),
        host=ANY_ADDRESS.get(interface, interface) if isinstance(interface, str) else "127.0.0.1",
        port=_whole(server.get("port")) or default_port,
        control_pid=_whole(control.get("pid")),
        control_port=_whole(control.get("port")),
        executables=tuple(_executables(internal)),
        jit_ttl_seconds=_jit_ttl(settings),
    )


def newest_conversation(path: Path) -> float | None:
    """When a chat in the window was last written, or ``None`` without any.

    Chats in the window go through no port, so this is the only sign of them.
    """
    times = [entry for folder, _, names in os.walk(path / "conversations") for entry in _times(folder, names)]
    return max(times, default=None)


def _times(folder: str, names: list[str]) -> list[float]:
    return [time for name in names if (time := _modified(Path(folder) / name)) is not None]


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _executables(internal: Path) -> list[str]:
    files = ("app-install-location.json", "llmster-install-location.json")
    paths = [_json(internal / name).get("path") for name in files]
    return [path for path in paths if isinstance(path, str) and path]


def _old_settings(user_home: Path) -> Path:
    """``settings.json`` of the older generation, in Electron's folder of the user."""
    if sys.platform == "win32":
        return (
            Path(os.environ.get("APPDATA", user_home / "AppData" / "Roaming")) / "LM Studio" / "settings.json"
        )
    if sys.platform == "darwin":
        return user_home / "Library" / "Application Support" / "LM Studio" / "settings.json"
    return user_home / ".config" / "LM Studio" / "settings.json"


def _jit_ttl(settings: Mapping[str, Any]) -> float | None:
    developer = settings.get("developer")
    ttl = developer.get("jitModelTTL") if isinstance(developer, Mapping) else None
    if not isinstance(ttl, Mapping) or not ttl.get("enabled"):
        return None
    seconds = ttl.get("ttlSeconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _version(info: Mapping[str, Any]) -> str | None:
    # The misspelt key is LM Studio's own.
    version = info.get("lastRecorderdAppVersion")
    return version if isinstance(version, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(path: Path) -> Mapping[str, Any]:
    """The mapping in a file, or an empty one: LM Studio may be writing it, or it holds something else."""
    try:
        content = jsonfile.read(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
