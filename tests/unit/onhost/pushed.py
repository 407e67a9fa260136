"""Runs the scripts as a host gets them: text on stdin of ``python3 -I -``, JSON back."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calm.onhost import parse, script

KEY = "5e" * 32
Json = dict[str, Any]


def python() -> str:
    """The system's own Python if it has one, which is what a host runs; CALM_HOST_PYTHON names another."""
    return (
        os.environ.get("CALM_HOST_PYTHON")
        or shutil.which("python3", path="/usr/bin:/usr/local/bin")
        or sys.executable
    )


def push(name: str, request: Json, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one script to its end."""
    environ = {**os.environ, **(env or {})}
    return subprocess.run(
        [python(), "-I", "-"],
        input=script(name, request),
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )


def probe(root: Path, env: Mapping[str, str] | None = None, **request: Any) -> Json:
    """The probe's answer; Docker is left out unless it is asked for."""
    done = push("probe", {"schema": 1, "root": str(root), "digest_key": KEY, **request}, env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return parse(done.stdout)


def effect(
    root: Path, *effects: Json, env: Mapping[str, str] | None = None, run: Json | None = None
) -> list[Json]:
    """The results of effects; the exit code and stderr agree with them."""
    request = {"schema": 1, "root": str(root), "digest_key": KEY, "effects": list(effects)}
    done = push("effect", {**request, "run": run or {"id": "r1", "who": "tests"}}, env)
    assert "Traceback" not in done.stderr
    results: list[Json] = parse(done.stdout)["results"]
    failed = [result["message"] for result in results if result["status"] == "failed"]
    assert done.returncode == (1 if failed else 0)
    assert done.stderr == "".join(f"{message}\n" for message in failed)
    return results


def statuses(results: list[Json]) -> list[str]:
    """The statuses alone."""
    return [result["status"] for result in results]


def tree(folder: Path) -> dict[str, tuple[str, int, int, str]]:
    """Each path below a folder with its kind, mode, time of change, and the hash of its content."""
    out = {}
    for path in sorted([folder, *folder.rglob("*")]):
        found = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        content = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
        out[str(path)] = (kind, found.st_mode, found.st_mtime_ns, content)
    return out
