"""The agent that this checkout would install: what it is made of, and the wheel itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = "requirements-agent.lock"


class ReleaseError(Exception):
    """The wheel could not be built. The text says why."""


def fingerprint(checkout: Path) -> str:
    """A hash over all that the agent's wheel and its dependencies come from; hexadecimal.

    It stands for the wheel without building it: the same sources give the same fingerprint.
    """
    whole = hashlib.sha256()
    for path in _sources(checkout):
        whole.update(str(path.relative_to(checkout)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def wheel(checkout: Path) -> tuple[str, bytes]:
    """Build the wheel: its file name and its bytes.

    Raises:
        ReleaseError: the build failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        built = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not built:
            raise ReleaseError(f"The agent's wheel could not be built: {done.stderr.strip()[-500:]}")
        return built[0].name, built[0].read_bytes()


def wheels(folder: Path) -> list[tuple[str, bytes]]:
    """The wheels in ``folder``, for a host that reaches no index: names and bytes.

    Raises:
        ReleaseError: there is no such folder, or no wheel in it.
    """
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise ReleaseError(
            f"agent.wheelhouse: there are no wheels in {folder}. Fill it with "
            f"`pip download --dest {folder} --require-hashes -r {REQUIREMENTS}` for the host's platform."
        )
    return [(path.name, path.read_bytes()) for path in found]


def requirements(checkout: Path) -> str:
    """What the agent depends on, pinned with hashes."""
    return (checkout / REQUIREMENTS).read_text(encoding="utf-8")


def _sources(checkout: Path) -> list[Path]:
    code = sorted(path for path in (checkout / "calm").rglob("*.py"))
    return [checkout / "pyproject.toml", checkout / REQUIREMENTS, *code]
