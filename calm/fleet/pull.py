"""``calm pull``: a host fetches the checkout and converges itself, when no controller is to push to it.

Only what git has is applied: local changes in ``<root>/pull`` are undone at each pull. What came of it stays
in ``<root>/outputs/pull.json``, where `calm status` of any controller finds it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from calm.atomic import replace

FOLDER = "pull"
REPORT = "outputs/pull.json"
GIT_SECONDS = 300
VENV_SECONDS = 900

_NEEDED = ("pyinfra", "jinja2", "ruamel.yaml")
_RUN = "from calm.cli.main import main; main()"


class PullError(Exception):
    """The host could not pull. The text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a host gets its settings from, and which inventory there is for itself."""

    url: str
    reference: str = "HEAD"
    inventory: str = "inventories/local.py"

    def __post_init__(self) -> None:
        if self.url.startswith("-") or self.reference.startswith("-"):
            raise PullError(f"{self.url} {self.reference} is no repository.")
        parts = urlsplit(self.url)
        if parts.scheme.startswith("http") and parts.password:
            raise PullError(
                "The address has a password in it, which every user here could read. Keep it in git's "
                "credential store instead: `git help credentials`."
            )


def pull(source: Source, root: Path) -> int:
    """Fetch ``source`` below ``root``, apply it to this host, and note what came of it.

    Returns the exit code of that apply.

    Raises:
        PullError: nothing was applied. It is noted, too.
    """
    (root / "outputs").mkdir(parents=True, exist_ok=True)
    with _alone(root):
        began, commit = time.time(), None
        try:
            commit = _fetched(source, root / FOLDER)
            code, document = _applied(source, root / FOLDER)
        except PullError as error:
            failed = {"code": 1, "error": str(error), "summary": None, "hosts": None}
            _note(root, source, began, {"commit": commit, **failed})
            raise
        _note(root, source, began, {"commit": commit, "code": code, "error": None, **document})
        return code


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    import fcntl

    with (root / ".pull.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullError("Another pull is at work on this host; wait for it to end.") from None
        yield


def _fetched(source: Source, folder: Path) -> str:
    """Bring ``folder`` to what the repository has; the commit."""
    if shutil.which("git") is None:
        raise PullError("git is not installed here. On Debian: apt-get install git.")
    folder.mkdir(mode=0o700, exist_ok=True)
    _git(folder, "init", "--quiet")
    _git(folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--", source.url, source.reference)
    _git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    _git(folder, "clean", "--quiet", "-ffd")
    return _git(folder, "rev-parse", "HEAD").strip()


def _git(folder: Path, *arguments: str) -> str:
    # Nobody is there to answer: neither a password nor the key of a host may be asked for.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    done = _run(["git", "-C", str(folder), *arguments], env=quiet | dict(os.environ), seconds=GIT_SECONDS)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise PullError(f"git {arguments[0]} failed: {said}. Nothing was changed on this host.")
    return done.stdout


def _applied(source: Source, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the checkout's own calm on this host; its exit code and the parts of its document to keep."""
    # An inventory of the whole fleet must not make every host of it converge all the others.
    arguments = ["apply", source.inventory, "--limit", "@local", "--yes", "--json"]
    done = subprocess.run(
        [_python(folder), "-c", _RUN, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        document: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        document = {}
    return done.returncode, {key: document.get(key) for key in ("summary", "hosts")}


def _python(folder: Path) -> str:
    """A Python that can plan and apply: this one, else one that the checkout makes for itself."""
    if all(_there(name) for name in _NEEDED):
        return sys.executable
    if shutil.which("make") is None:
        raise PullError("make is not installed here. On Debian: apt-get install make.")
    done = _run(["make", "-C", str(folder), "venv"], env=dict(os.environ), seconds=VENV_SECONDS)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise PullError(f"`make venv` in {folder} failed, so nothing was applied: {said}")
    return str(folder / ".venv" / "bin" / "python")


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _run(argv: list[str], *, env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=env,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PullError(f"{argv[0]} did not end within {seconds:.0f} s.") from None


def _note(root: Path, source: Source, began: float, found: Mapping[str, Any]) -> None:
    report = {
        "schema": 1,
        "from": source.url,
        "at": began,
        "took_s": round(time.time() - began, 1),
        **found,
    }
    replace(root / REPORT, json.dumps(report, indent=1) + "\n")
