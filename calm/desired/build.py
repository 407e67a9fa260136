"""The build context of the agent API: files of this machine that travel to the host as owned documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from calm.desired.templates import checkout
from calm.settings.problems import Problem, SettingsError

if TYPE_CHECKING:
    from calm.settings import Settings

FOLDER = "agent_api"
"""Of the context on the host, beside the Compose file."""

CLIENT = Path(__file__).parents[1] / "llm"
"""The client that obeys app.yaml. Nothing in it needs anything else of calm."""

MOST_BYTES = 4 * 1024 * 1024
MOST_FILES = 500
LEFT_OUT = (".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", ".DS_Store", "*.egg-info")

PIP_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
"""Build arguments of the reference Dockerfile, for whoever has a mirror."""


def context(settings: Settings) -> dict[str, str]:
    """The files of the build context by their path in it; empty where the agent API is an image or off.

    Raises:
        SettingsError: the folder is missing, has no Dockerfile, is too large, or holds what is not text.
    """
    api = settings.docker.agent_api
    if settings.docker.enabled is False or not api.enabled or api.image is not None:
        return {}
    return dict(_read(Path(api.build).expanduser().resolve())) if api.build else reference()


def reference() -> dict[str, str]:
    """The context of the reference agent API: its own files, and the client that it shares with calm."""
    client = {f"agent_api/llm/{path}": text for path, text in _client()}
    return dict(_read(checkout() / "stack" / "agent_api")) | client


@lru_cache(maxsize=1)
def _client() -> tuple[tuple[str, str], ...]:
    return _texts(CLIENT, sorted(CLIENT.glob("*.py")))


def is_reference(settings: Settings) -> bool:
    """Whether the agent API is the one of stack/agent_api."""
    return settings.docker.agent_api.image is None and settings.docker.agent_api.build is None


def tag(project: str, files: dict[str, str]) -> str:
    """The image's name, which says what it was built from: ``<project>-api:<12 hex digits>``."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0{files[path]}".encode())
    return f"{project}-api:{digest.hexdigest()[:12]}"


@lru_cache(maxsize=4)
def _read(folder: Path) -> tuple[tuple[str, str], ...]:
    """Read once per run: a plan and the apply after it have to see the same files."""
    if not (folder / "Dockerfile").is_file():
        raise _wrong(f"{folder} has no Dockerfile in it")
    paths = sorted(_files(folder, folder))
    if len(paths) > MOST_FILES or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        raise _wrong(
            f"{folder} is too large to send ({len(paths)} files; at most {MOST_FILES} and "
            f"{MOST_BYTES // 1024**2} MB); build the image yourself and set calm.docker.agent_api.image"
        )
    return _texts(folder, paths)


def _texts(folder: Path, paths: list[Path]) -> tuple[tuple[str, str], ...]:
    return tuple((path.relative_to(folder).as_posix(), _text(path)) for path in paths)


def _files(folder: Path, top: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in LEFT_OUT):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, top)
        elif path.resolve().is_relative_to(top):
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong(
            f"{path} is not UTF-8 text, and calm sends no other files; build the image yourself and set "
            "calm.docker.agent_api.image"
        ) from None
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from None


def _wrong(message: str) -> SettingsError:
    return SettingsError([Problem(path="calm.docker.agent_api.build", message=message)])
