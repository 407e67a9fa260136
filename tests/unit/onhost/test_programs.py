"""Programs are found as a shell would find them, and where they usually lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calm.onhost.programs import on_path, which

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")


def program(folder: Path, name: str, mode: int = 0o755) -> Path:
    """A file that may be run, or may not."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(mode)
    return folder / name


def test_the_first_on_the_path_that_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "tool").mkdir(parents=True)
    program(tmp_path / "b", "tool", 0o644)
    right = program(tmp_path / "c", "tool")
    path = os.pathsep.join(str(tmp_path / each) for each in ("none", "a", "b", "c"))

    assert on_path("tool", {"PATH": path}) == str(right)
    assert on_path("other", {"PATH": path}) is None
    assert on_path("tool", {"PATH": ""}) is None


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    there = program(tmp_path / "d", "tool")

    assert on_path(str(there), {"PATH": ""}) == str(there)
    assert on_path(str(there.with_name("gone")), {"PATH": str(there.parent)}) is None


def test_without_a_path_the_system_has_its_own() -> None:
    assert Path(on_path("sh", {}) or "").name == "sh"


def test_what_a_short_path_leaves_out_is_found_only_where_that_is_asked_for(tmp_path: Path) -> None:
    assert on_path("sh", {"PATH": str(tmp_path)}) is None
    assert Path(which("sh", {"PATH": str(tmp_path)}) or "").name == "sh"
